//! A data directory from one start to the next.

use std::fs;

use octelium_node::{
    config::{Config, Settings},
    node::Node,
};

use crate::support::{api::Api, cluster::DOMAIN};

fn config(directory: &tempfile::TempDir, domain: &str) -> Config {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let settings = Settings {
        domain: Some(domain.to_owned()),
        data_dir: Some(directory.path().join("data")),
        listen: Some(vec!["https://127.0.0.1:0".to_owned()]),
        workers: Some(1),
        access_log: Some("off".to_owned()),
        drain_timeout: Some("2s".to_owned()),
        ..Settings::default()
    };
    settings.check().unwrap()
}

/// A first start that is cut off before the token could be kept doesn't lock the administrator out.
#[tokio::test]
async fn the_root_token_is_written_until_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory, DOMAIN);
    let file = config.data_dir.join("root.token");
    Node::start(&config).await.unwrap().stop().await.unwrap();
    let token = fs::read_to_string(&file).unwrap();

    fs::remove_file(&file).unwrap();
    let node = Node::start(&config).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), token, "the same token, not another one");
    let address = node.addresses[0].address;
    let api = Api::anonymous(address, &node.ca_file, &format!("octelium-api.{DOMAIN}")).log_in(&token).await;
    drop(api);
    node.stop().await.unwrap();

    fs::remove_file(&file).unwrap();
    Node::start(&config).await.unwrap().stop().await.unwrap();
    assert!(!file.exists(), "it was used: whoever removed the file keeps the token elsewhere");
}

#[tokio::test]
async fn a_data_directory_keeps_its_domain() {
    let directory = tempfile::tempdir().unwrap();
    Node::start(&config(&directory, DOMAIN)).await.unwrap().stop().await.unwrap();
    let error = Node::start(&config(&directory, "other.test")).await.err().expect("it refuses to start");
    assert!(error.to_string().contains(&format!("belongs to the cluster of `{DOMAIN}`")), "{error:#}");
    Node::start(&config(&directory, DOMAIN)).await.unwrap().stop().await.unwrap();
}
