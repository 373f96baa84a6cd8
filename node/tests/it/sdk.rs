//! The official Python SDK, as PyPI has it, against a node (`node/tests/sdk/flow.py`).
//!
//! `.ci/run` makes its environment; elsewhere:
//! `python3 -m venv target/sdk-venv && target/sdk-venv/bin/pip install -r node/tests/sdk/requirements.txt`.

use std::{env, path::PathBuf, process::Stdio, time::Duration};

use octelium_api::core::credential_token;
use serde_json::json;
use tokio::process::Command;

use crate::support::{
    cluster::{Cluster, DOMAIN},
    manifest::resource,
    upstream::Upstream,
};

/// It makes, reads and deletes some hundred resources, each change on the disk before it is answered.
const PATIENCE: Duration = Duration::from_secs(180);

/// The interpreter that has the SDK: the one of the environment variable, else that of the workspace's `target`.
fn python() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("OCTELIUM_SDK_PYTHON") {
        return Ok(path.into());
    }
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = workspace.join("target/sdk-venv/bin/python");
    path.exists().then_some(path).ok_or_else(|| {
        "there is no target/sdk-venv (.ci/run makes it), and OCTELIUM_SDK_PYTHON names no other Python".to_owned()
    })
}

#[tokio::test]
async fn the_official_python_sdk_works_unchanged() {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let (cluster, upstream) = (Cluster::start().await, Upstream::ok().await);
    let may = json!({ "policies": ["octelium-api-full-access", "allow-all"] });
    let spec = json!({ "type": "AUTH_TOKEN", "user": "root", "authorization": may });
    cluster.api.apply(&[resource("Credential", "sdk", spec)]).await;
    let token = match cluster.api.generate("sdk").await {
        credential_token::Type::AuthenticationToken(token) => token.authentication_token,
        other => panic!("{other:?}"),
    };

    let mut flow = Command::new(python);
    flow.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/flow.py"))
        .args(["--domain", DOMAIN, "--address", &cluster.https.to_string(), "--upstream", &upstream.url(), "--ca"])
        .arg(&cluster.node.ca_file)
        .env("ROOT_TOKEN", token)
        // What the machine sets for other clients.
        .env_remove("OCTELIUM_DOMAIN")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, flow.output()).await.expect("the flow ends in time").unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{out}");
    assert!(output.status.success() && out.ends_with("all as expected\n"), "{}\n{out}\n{errors}", output.status);
}
