//! `create credential`: a Credential and the token that it stands for.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use clap::ValueEnum;
use octelium_api::{
    core::{
        Credential, CredentialToken, GenerateCredentialTokenRequest,
        credential::{Spec, spec},
        credential_token, session,
    },
    manifest,
    meta::ObjectReference,
};
use prost_types::Timestamp;
use tonic::{Request, metadata::MetadataValue};

use super::{named, sentence};
use crate::{
    Usage,
    output::{self, Format, plain},
    refusal::perhaps_done,
    session::Cluster,
    time::parse_span,
};

/// No Credential's name is longer, in bytes.
const NAME_BYTES_MAX: usize = 40;

/// The Credential to create, or to give a new token.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Its name; default: <user>-<type>-<random>
    #[arg(required_if_eq("rotate", "true"))]
    name: Option<String>,
    /// The User it belongs to
    #[arg(long, required_unless_present = "rotate")]
    user: Option<String>,
    /// What its token is for
    #[arg(long, value_enum, default_value = "auth-token")]
    r#type: Type,
    /// The type of the Sessions it starts; default: client, and clientless for oauth2
    #[arg(long, value_enum)]
    session_type: Option<SessionType>,
    /// How long it is valid, e.g. 15minutes, 2hours, 30days, 1week, 3months
    #[arg(long, value_parser = parse_span, value_name = "SPAN")]
    expire_in: Option<Duration>,
    /// It authenticates once
    #[arg(long)]
    one_time: bool,
    /// How often it authenticates; 0: without limit
    #[arg(long, value_name = "N")]
    max_authn: Option<u32>,
    /// A Policy of the Sessions it starts; repeatable, or a list with commas
    #[arg(long, value_delimiter = ',', value_name = "POLICY")]
    policy: Vec<String>,
    /// Only make a new token for the Credential NAME; the old one ends, but Sessions that it made go on unless
    /// --end-sessions is given
    #[arg(long, conflicts_with_all = ["user", "type", "session_type", "expire_in", "one_time", "max_authn", "policy"])]
    rotate: bool,
    /// With --rotate: also end the Sessions that the old token made
    // What --user excludes can't be required beside it, so that it is excluded here too.
    #[arg(long, requires = "rotate", conflicts_with = "user")]
    end_sessions: bool,
    /// Print only the token, in this form
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Type {
    AuthToken,
    Oauth2,
    #[value(alias = "access")]
    AccessToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SessionType {
    Client,
    Clientless,
}

/// Creates the Credential and its token, or the token alone.
///
/// # Errors
/// If the server refuses either.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.rotate {
        let name = arguments.name.clone().unwrap_or_default();
        let token = generate(cluster, ObjectReference { name, ..Default::default() }, arguments.end_sessions).await?;
        return show(&token, String::new(), arguments.out);
    }
    let credential = credential(arguments, SystemTime::now(), &random())?;
    let created = cluster.core(async |core| core.create_credential(credential.clone()).await).await;
    let created = octelium_api::Object::from(created.map_err(perhaps_done)?);
    let reference =
        ObjectReference { uid: created.uid().to_owned(), name: created.name().to_owned(), ..Default::default() };
    let token = generate(cluster, reference, false).await.with_context(|| {
        format!(
            "the Credential `{0}` was created without a token; try `create credential --rotate {0}`",
            created.name()
        )
    })?;
    show(&token, sentence(&created), arguments.out)
}

fn credential(arguments: &Arguments, now: SystemTime, random: &str) -> Result<Credential, Usage> {
    let user = arguments.user.clone().unwrap_or_default();
    let name = arguments.name.clone().unwrap_or_else(|| generated_name(&user, arguments.r#type, random));
    if name.len() > NAME_BYTES_MAX {
        return Err(Usage(format!("the name `{name}` is longer than {NAME_BYTES_MAX} characters")));
    }
    let session_type = match (arguments.r#type, arguments.session_type) {
        (Type::Oauth2, Some(SessionType::Client)) => {
            return Err(Usage("a Credential of type oauth2 starts clientless Sessions only".into()));
        }
        (Type::Oauth2, _) | (_, Some(SessionType::Clientless)) => session::status::Type::Clientless,
        (_, None | Some(SessionType::Client)) => session::status::Type::Client,
    };
    let spec = Spec {
        r#type: match arguments.r#type {
            Type::AuthToken => spec::Type::AuthToken,
            Type::Oauth2 => spec::Type::Oauth2,
            Type::AccessToken => spec::Type::AccessToken,
        }
        .into(),
        user,
        max_authentications: arguments.max_authn.unwrap_or(u32::from(arguments.one_time)),
        expires_at: arguments.expire_in.map(|span| Timestamp::from(now + span)),
        session_type: session_type.into(),
        authorization: (!arguments.policy.is_empty())
            .then(|| spec::Authorization { policies: arguments.policy.clone(), ..Default::default() }),
        ..Default::default()
    };
    Ok(Credential { metadata: Some(named(&name)), spec: Some(spec), ..Default::default() })
}

/// `<user>-<type>-<random>`, the User's name as far as there is room.
fn generated_name(user: &str, r#type: Type, random: &str) -> String {
    let tail = match r#type {
        Type::AuthToken => "auth-token",
        Type::Oauth2 => "oauth2",
        Type::AccessToken => "access-token",
    };
    let room = NAME_BYTES_MAX - tail.len() - random.len() - 2;
    // Names have no two hyphens in a row. The server judges characters; here only none is cut in halves.
    let user: String = user.chars().filter(char::is_ascii).take(room).collect();
    format!("{}-{tail}-{random}", user.trim_end_matches('-'))
}

/// Four random letters and digits.
fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..4].to_owned()
}

async fn generate(
    cluster: &mut Cluster,
    reference: ObjectReference,
    end_sessions: bool,
) -> anyhow::Result<CredentialToken> {
    let message = GenerateCredentialTokenRequest { credential_ref: Some(reference) };
    let request = || {
        let mut request = Request::new(message.clone());
        if end_sessions {
            request.metadata_mut().insert("end-sessions", MetadataValue::from_static("true"));
        }
        request
    };
    cluster.core(async |core| core.generate_credential_token(request()).await).await
}

/// The token alone where a form is asked for, else below `sentence`.
fn show(token: &CredentialToken, sentence: String, out: Option<Format>) -> anyhow::Result<()> {
    let text = match out {
        Some(Format::Json) => output::document(&manifest::message_to_json(token), Format::Json)?,
        Some(Format::Yaml) => manifest::message_to_yaml(token),
        None => {
            let line = |label: &str, value: &str| format!("{label}: {}\n", plain(value));
            let lines = match &token.r#type {
                Some(credential_token::Type::AuthenticationToken(token)) => {
                    line("Authentication token", &token.authentication_token)
                }
                Some(credential_token::Type::Oauth2Credentials(pair)) => {
                    line("Client ID", &pair.client_id) + &line("Client secret", &pair.client_secret)
                }
                Some(credential_token::Type::AccessToken(token)) => line("Access token", &token.access_token),
                None => anyhow::bail!("the server answered without a token"),
            };
            sentence + &lines
        }
    };
    Ok(output::result(&text)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        create: Arguments,
    }

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Line::try_parse_from(["credential"].into_iter().chain(line.split_whitespace())).map(|line| line.create)
    }

    fn spec(line: &str) -> (String, Spec) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let credential = credential(&parse(line).unwrap(), now, "a1b2").unwrap();
        (credential.metadata.unwrap().name, credential.spec.unwrap())
    }

    #[test]
    fn flags_become_the_spec() {
        let (name, found) = spec("ci --user bot --one-time --expire-in 2hours --policy a,b --policy c");
        assert_eq!(name, "ci");
        assert_eq!((found.user.as_str(), found.max_authentications, found.auto_delete), ("bot", 1, false));
        assert_eq!(found.expires_at, Some(Timestamp { seconds: 8_200, nanos: 0 }));
        assert_eq!(found.authorization.unwrap().policies, ["a", "b", "c"]);
        assert_eq!(found.r#type, i32::from(spec::Type::AuthToken));
        assert_eq!(found.session_type, i32::from(session::status::Type::Client));
        assert_eq!(spec("--user bot --one-time --max-authn 5").1.max_authentications, 5);
    }

    #[test]
    fn oauth2_is_always_clientless() {
        let clientless = i32::from(session::status::Type::Clientless);
        assert_eq!(spec("--user bot --type oauth2").1.session_type, clientless);
        assert_eq!(spec("--user bot --type access --session-type clientless").1.session_type, clientless);
        let wrong = parse("--user bot --type oauth2 --session-type client").unwrap();
        assert!(credential(&wrong, SystemTime::now(), "a1b2").is_err());
    }

    #[test]
    fn made_names_fit_into_forty_characters() {
        assert_eq!(spec("--user ann").0, "ann-auth-token-a1b2");
        assert_eq!(spec("--user ann --type access-token").0, "ann-access-token-a1b2");
        let long = "x".repeat(40);
        for r#type in ["auth-token", "oauth2", "access"] {
            assert_eq!(spec(&format!("--user {long} --type {type}")).0.len(), 40);
        }
        let hyphen = format!("{}-{}", "x".repeat(21), "y".repeat(10));
        assert_eq!(spec(&format!("--user {hyphen} --type access")).0, format!("{}-access-token-a1b2", "x".repeat(21)));
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for line in [
            "ci",
            "--rotate",
            "ci --rotate --user bot",
            "ci --user bot --end-sessions",
            "--user bot --type jwt",
            "--user bot --expire-in soon",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("ci --rotate").unwrap().rotate);
    }
}
