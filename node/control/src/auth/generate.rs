//! New tokens for Credentials: `GenerateCredentialToken`.

use octelium_api::{
    Kind, Object,
    core::{
        self, Credential, CredentialToken, Session, User,
        credential::spec::Type,
        credential_token::{self, AccessToken, AuthenticationToken, OAuth2Credentials},
    },
    meta::ObjectReference,
};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{Denied, credential, session};
use crate::{
    ClientInfo, Inner, list,
    plan::{Actor, Id, Plan},
    refusal::Refusal,
    token::{Token, TokenKeys, TokenKind},
};

/// Replaces the Credential's token; the old one is worth nothing from then on. `end_sessions`: nor are the Sessions that
/// it made.
pub async fn credential_token(
    inner: &Inner,
    reference: &ObjectReference,
    end_sessions: bool,
    actor: &Actor,
) -> Result<CredentialToken, Status> {
    let keys = inner.token_keys();
    let done = inner.store.change(actor, |plan| {
        let path = "credentialRef";
        let stored = list::find(plan.state(), Kind::Credential, &reference.uid, &reference.name, path)?.clone();
        let Object::Credential(mut credential) = stored.object.clone() else {
            return Err(Refusal::not_found(Kind::Credential, &reference.name));
        };
        let spec = credential.spec.clone().unwrap_or_default();
        let status = credential.status.get_or_insert_default();
        let reason = match () {
            () if spec.is_disabled => Some("disabled"),
            () if status.is_locked => Some("locked"),
            () if credential::is_expired(&spec, plan.now()) => Some("expired"),
            () => None,
        };
        if let Some(reason) = reason {
            return Err(Refusal::at(path, format!("the Credential is {reason}")));
        }
        renew(status, plan);
        if end_sessions {
            let state = plan.state().clone();
            state.owned_by(Kind::Session, stored.object.uid()).for_each(|session| plan.drop(session));
        }
        let mut made = None;
        if spec.r#type() == Type::AccessToken {
            made = Some(access_session(plan, &credential)?);
        }
        plan.edit(&stored, credential.clone());
        Ok((credential, made))
    });
    let done = done.await?;
    let (credential, made) = &done.value;
    let token = match made {
        Some(id) => {
            let session = credential::made(done.object(id));
            session.and_then(|session| session::tokens(session, &keys)).map(|tokens| tokens.access)
        }
        None => mint(credential, &keys),
    };
    let token = token.ok_or_else(|| Status::unavailable("the token can't be made now"))?;
    Ok(answer(credential, token))
}

/// A token for the Credential as it is.
pub fn mint(credential: &Credential, keys: &TokenKeys) -> Option<String> {
    let uid = Uuid::parse_str(&credential.metadata.as_ref()?.uid).ok()?;
    let id = Uuid::parse_str(&credential.status.as_ref()?.token_id).ok()?;
    let expires = credential.spec.as_ref()?.expires_at.as_ref();
    let expires_unix = expires.map_or(0, |at| at.seconds);
    let token = Token { kind: TokenKind::Credential, subject: uid.as_u128(), id: id.as_u128(), expires_unix };
    let made = credential.status.as_ref()?.last_rotation_at.as_ref().map_or(i64::MAX, |at| at.seconds);
    Some(keys.mint_at(&token, made)).filter(|text| !text.is_empty())
}

fn renew(status: &mut core::credential::Status, plan: &Plan) {
    status.token_id = Uuid::new_v4().to_string();
    status.last_rotation_at = Some(plan.now().timestamp());
    status.total_rotations = status.total_rotations.saturating_add(1);
}

fn answer(credential: &Credential, token: String) -> CredentialToken {
    let r#type = match credential.spec.clone().unwrap_or_default().r#type() {
        Type::Oauth2 => credential_token::Type::Oauth2Credentials(OAuth2Credentials {
            client_id: credential.status.as_ref().map(|status| status.id.clone()).unwrap_or_default(),
            client_secret: token,
        }),
        Type::AccessToken => credential_token::Type::AccessToken(AccessToken { access_token: token }),
        Type::AuthToken | Type::Unknown => {
            credential_token::Type::AuthenticationToken(AuthenticationToken { authentication_token: token })
        }
    };
    CredentialToken { r#type: Some(r#type) }
}

/// The Session of an ACCESS_TOKEN Credential, with a new authentication; a new one if there is none that lives.
fn access_session(plan: &mut Plan, credential: &Credential) -> Result<Id, Refusal> {
    let client = ClientInfo::default();
    let uid = credential.metadata.as_ref().map_or("", |metadata| &metadata.uid);
    let state = plan.state().clone();
    let owned = state.owned_by(Kind::Session, uid).find(|stored| match &stored.object {
        // One that this change ends doesn't go on.
        Object::Session(session) => {
            plan.get(Kind::Session, stored.object.uid()).is_some()
                && belongs_to(session, uid)
                && session::is_unexpired(session, plan.now())
        }
        _ => false,
    });
    if let Some(stored) = owned.cloned() {
        let Object::Session(mut session) = stored.object.clone() else { return Err(gone()) };
        if session::is_barred(&session) {
            return Err(Refusal::at("credentialRef", "the Credential's Session is locked or rejected"));
        }
        let info = session::info_of_credential(plan.state(), credential, &client);
        session::reauthenticate(&mut session, info, plan.now());
        // The replaced token ends at once: somebody may have asked for a new one because the old one is known.
        let status = session.status.get_or_insert_default();
        status.last_authentications.iter_mut().for_each(|earlier| earlier.token_id.clear());
        return plan.edit(&stored, session).ok_or_else(gone);
    }
    let spec = credential.spec.clone().unwrap_or_default();
    let user: User = match plan.by_name(Kind::User, &spec.user) {
        Some(Object::User(user)) => user.clone(),
        _ => return Err(Refusal::at("credentialRef", format!("its User `{}` is gone", spec.user))),
    };
    if session::is_off(&user) {
        return Err(Refusal::at("credentialRef", format!("its User `{}` is disabled or locked", spec.user)));
    }
    let kind = match spec.session_type() {
        core::session::status::Type::Unknown => core::session::status::Type::Clientless,
        chosen => chosen,
    };
    let new = session::New { user: &user, credential, kind, scopes: Vec::new(), client: &client };
    let session = session::make(plan, new).map_err(|denied| match denied {
        Denied::Refused(refusal) => refusal,
        _ => Refusal::new(Code::PermissionDenied, format!("User `{}` has as many Sessions as it may have", spec.user)),
    })?;
    Ok(plan.make(session))
}

fn belongs_to(session: &Session, credential_uid: &str) -> bool {
    let by = session.status.as_ref().and_then(|status| status.credential_ref.as_ref());
    by.is_some_and(|by| by.uid == credential_uid)
}

fn gone() -> Refusal {
    Refusal::new(Code::Unavailable, "the Session changed meanwhile")
}
