//! Authenticators: second factors, which their owner makes and passes.

use std::io::{self, BufRead};

use anyhow::bail;
use octelium_api::{
    auth::{
        AuthenticateAuthenticatorBeginRequest, AuthenticateWithAuthenticatorRequest, Authenticator, AuthenticatorList,
        ChallengeResponse, CreateAuthenticatorRequest, ListAuthenticatorOptions,
        authenticate_authenticator_begin_response::challenge_request::Type as Challenge, authenticator::status::Type,
        challenge_response,
    },
    manifest,
    meta::{DeleteOptions, GetOptions, ObjectReference},
};
use serde_json::json;

use crate::{
    exit::{Exit, Failure},
    output::{self, Format, plain},
    prompt,
    refusal::perhaps_done,
    session::Cluster,
};

const PAGES_MAX: u32 = 100;

/// Makes one.
///
/// # Errors
/// If the server refuses.
pub async fn create(
    cluster: &mut Cluster,
    r#type: Type,
    display_name: &str,
    out: Option<Format>,
) -> anyhow::Result<()> {
    let request = CreateAuthenticatorRequest { r#type: r#type.into(), display_name: display_name.to_owned() };
    let created = cluster.auth(async |auth| auth.create_authenticator(request.clone()).await).await?;
    let text = match out {
        Some(format) => document(&created, format)?,
        None => format!("Authenticator `{}` successfully created\n", plain(name(&created))),
    };
    output::result(&text)?;
    if !created.status.as_ref().is_some_and(|status| status.is_registered) {
        output::note(
            "it can be used once it is registered, which this program can't do: use the cluster's page for it",
        );
    }
    Ok(())
}

/// Shows one.
///
/// # Errors
/// If there is none of this name, or the server refuses.
pub async fn show(cluster: &mut Cluster, name: &str, format: Format) -> anyhow::Result<()> {
    let options = GetOptions { name: name.to_owned(), ..Default::default() };
    let found = cluster.auth(async |auth| auth.get_authenticator(options.clone()).await).await?;
    Ok(output::result(&document(&found, format)?)?)
}

/// Shows all of them.
///
/// # Errors
/// If the server refuses.
pub async fn list(cluster: &mut Cluster, out: Option<Format>) -> anyhow::Result<()> {
    let mut all: Vec<Authenticator> = Vec::new();
    for page in 0..PAGES_MAX {
        let options = ListAuthenticatorOptions { page, ..Default::default() };
        let AuthenticatorList { items, list_response_meta, .. } =
            cluster.auth(async |auth| auth.list_authenticator(options).await).await?;
        all.extend(items);
        if !list_response_meta.is_some_and(|meta| meta.has_more) {
            break;
        }
    }
    let text = match out {
        Some(format) => {
            let items: Vec<_> = all.iter().map(manifest::message_to_json).collect();
            output::document(&json!({ "kind": "AuthenticatorList", "items": items }), format)?
        }
        None if all.is_empty() => "no Authenticator found\n".to_owned(),
        None => output::table(&["Name", "Display Name", "Type"], all.iter().map(row).collect()),
    };
    Ok(output::result(&text)?)
}

/// Deletes one.
///
/// # Errors
/// If there is none of this name, or the server refuses.
pub async fn delete(cluster: &mut Cluster, name: &str) -> anyhow::Result<()> {
    let options = DeleteOptions { name: name.to_owned(), ..Default::default() };
    let deleted = cluster.auth(async |auth| auth.delete_authenticator(options.clone()).await).await;
    deleted.map(|_| ()).map_err(perhaps_done)
}

/// Passes one now; the Session goes on with the tokens that this gives.
///
/// # Errors
/// If it can't be passed in a terminal, the code is wrong, or the server refuses.
pub async fn pass(cluster: &mut Cluster, name: &str) -> anyhow::Result<()> {
    let reference = Some(ObjectReference { name: name.to_owned(), ..Default::default() });
    let request = AuthenticateAuthenticatorBeginRequest { authenticator_ref: reference.clone() };
    let begun = cluster.auth(async |auth| auth.authenticate_authenticator_begin(request.clone()).await).await?;
    let what = match begun.challenge_request.and_then(|challenge| challenge.r#type) {
        Some(Challenge::Totp(_)) => None,
        Some(Challenge::Fido(_)) => Some("is a FIDO key, which only a browser can ask"),
        Some(Challenge::Tpm(_)) => Some("is a TPM, which this program can't ask"),
        None => Some("has a kind of challenge that this program doesn't know"),
    };
    if let Some(what) = what {
        return Err(Failure::new(Exit::Failed, format!("the Authenticator {name} {what}")).into());
    }
    let answer = challenge_response::Type::Totp(challenge_response::Totp { response: code(name)? });
    let request = AuthenticateWithAuthenticatorRequest {
        authenticator_ref: reference,
        challenge_response: Some(ChallengeResponse { r#type: Some(answer) }),
    };
    let token = cluster.auth(async |auth| auth.authenticate_with_authenticator(request.clone()).await).await?;
    cluster.take(token).await?;
    Ok(output::result(&format!("Passed Authenticator {}\n", plain(name)))?)
}

/// The digits that the Authenticator shows: typed, or a line of stdin.
fn code(name: &str) -> anyhow::Result<String> {
    let code = if prompt::possible() {
        rpassword::prompt_password(format!("Code of Authenticator `{}`: ", plain(name)))?
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        line
    };
    match code.trim() {
        code if !code.is_empty() && code.len() <= 16 && code.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(code.to_owned())
        }
        _ => bail!("expected the digits that the Authenticator shows"),
    }
}

fn name(authenticator: &Authenticator) -> &str {
    authenticator.metadata.as_ref().map_or("", |metadata| &metadata.name)
}

fn row(authenticator: &Authenticator) -> Vec<String> {
    let display_name = authenticator.spec.as_ref().map_or("", |spec| &spec.display_name);
    let r#type = authenticator.status.as_ref().map_or(Type::Unknown, |status| status.r#type());
    let r#type = if r#type == Type::Unknown { "" } else { r#type.as_str_name() };
    vec![name(authenticator).to_owned(), display_name.to_owned(), r#type.to_owned()]
}

fn document(authenticator: &Authenticator, format: Format) -> anyhow::Result<String> {
    match format {
        Format::Json => output::document(&manifest::message_to_json(authenticator), format),
        Format::Yaml => Ok(manifest::message_to_yaml(authenticator)),
    }
}
