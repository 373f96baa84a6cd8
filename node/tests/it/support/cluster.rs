//! A node in this process, in a directory of its own.

use std::{fs, net::SocketAddr, path::PathBuf};

use octelium_node::{config::Settings, node::Node};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    api::Api,
    http::{Answer, Call, Connection},
    until,
};

pub const DOMAIN: &str = "octelium.test";

/// A cluster of one node.
pub struct Cluster {
    pub node: Node,
    /// The root User.
    pub api: Api,
    /// Where callers speak plain HTTP.
    pub http: SocketAddr,
    /// Where callers speak TLS.
    pub https: SocketAddr,
    directory: TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// `settings` win over those of tests.
    pub async fn with(settings: Settings) -> Self {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let directory = tempfile::tempdir().unwrap();
        let for_tests = Settings {
            domain: Some(DOMAIN.to_owned()),
            data_dir: Some(directory.path().join("data")),
            listen: Some(vec!["http://127.0.0.1:0".to_owned(), "https://127.0.0.1:0".to_owned()]),
            workers: Some(1),
            access_log: Some(directory.path().join("access.log").display().to_string()),
            drain_timeout: Some("2s".to_owned()),
            ..Settings::default()
        };
        let node = Node::start(&settings.over(for_tests).check().unwrap()).await.unwrap();
        let [http, https] =
            [false, true].map(|tls| node.addresses.iter().find(|listen| listen.is_tls == tls).unwrap().address);
        let anonymous = Api::anonymous(https, &node.ca_file, &format!("octelium-api.{DOMAIN}"));
        let api = anonymous.log_in(node.root_token.as_deref().unwrap()).await;
        Self { node, api, http, https, directory }
    }

    /// One request over a connection of its own.
    pub async fn call(&self, call: &Call) -> Answer {
        self.connect().await.call(call).await
    }

    pub async fn connect(&self) -> Connection {
        Connection::plain(self.http).await
    }

    pub async fn connect_tls(&self, host: &str) -> Connection {
        Connection::tls(self.https, host, &self.node.ca_file).await
    }

    pub fn log_path(&self) -> PathBuf {
        self.directory.path().join("access.log")
    }

    /// The record that `matches`, once it is written.
    pub async fn record(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let path = self.log_path();
        until(&format!("the access-log record of {what}"), async || {
            let text = fs::read_to_string(&path).unwrap();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(&matches)
        })
        .await
    }

    /// The record of a refused request.
    pub async fn record_of(&self, answer: &Answer) -> Value {
        let id = answer.decision().to_owned();
        self.record(&id, |record| record["metadata"]["id"] == id.as_str()).await
    }

    /// Why a request was decided as it was.
    pub async fn reason_of(&self, answer: &Answer) -> String {
        let record = self.record_of(answer).await;
        record["entry"]["common"]["reason"]["type"].as_str().unwrap_or_default().to_owned()
    }

    /// Stops the node. All records that it wrote, without those of the control API.
    pub async fn stop(self) -> Vec<Value> {
        let (records, _) = self.stop_with_text().await;
        let api = format!("octelium-api.{DOMAIN}");
        records.into_iter().filter(|record| record["host"] != api.as_str()).collect()
    }

    /// Stops the node. All records, and the file as it is.
    pub async fn stop_with_text(self) -> (Vec<Value>, String) {
        let path = self.log_path();
        drop(self.api);
        self.node.stop().await.unwrap();
        let text = fs::read_to_string(path).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), text)
    }
}
