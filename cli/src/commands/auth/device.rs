//! Registering this machine as a Device.

use std::{env, fs};

use octelium_api::auth::{
    RegisterDeviceBeginRequest, RegisterDeviceFinishRequest,
    register_device_begin_request::{Info, info::OsType},
    register_device_begin_response::request::Type,
};

use crate::{
    exit::{Exit, Failure},
    output,
    session::Cluster,
};

/// Registers this machine.
///
/// # Errors
/// If the server refuses, or asks for more than this program gives.
pub async fn register(cluster: &mut Cluster) -> anyhow::Result<()> {
    let request = RegisterDeviceBeginRequest { info: Some(info()) };
    let begun = cluster.auth(async |auth| auth.register_device_begin(request.clone()).await).await?;
    if !begun.requests.is_empty() {
        // Nobody here agreed to what a server wants to run or read on this machine.
        let wanted: Vec<_> = begun
            .requests
            .iter()
            .map(|request| match &request.r#type {
                Some(Type::Command(command)) => format!("run `{} {}`", command.command, command.args.join(" ")),
                Some(Type::File(file)) => format!("read {}", file.path),
                None => "something that this program doesn't know".to_owned(),
            })
            .collect();
        let text = format!("the server wants to {} here, which this program doesn't do", wanted.join(", "));
        return Err(Failure::new(Exit::Failed, text).into());
    }
    let finish = RegisterDeviceFinishRequest { uid: begun.uid, responses: Vec::new() };
    cluster.auth(async |auth| auth.register_device_finish(finish.clone()).await).await?;
    Ok(output::result("This machine is registered as a Device\n")?)
}

/// What is told of this machine. What isn't known is left out.
fn info() -> Info {
    let os_type = match env::consts::OS {
        "linux" => OsType::Linux,
        "macos" => OsType::Mac,
        "windows" => OsType::Windows,
        _ => OsType::Unknown,
    };
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    Info {
        os_type: os_type.into(),
        hostname: read("/proc/sys/kernel/hostname"),
        id: read("/etc/machine-id"),
        ..Default::default()
    }
}
