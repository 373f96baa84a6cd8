//! Locks: suspensions that stand beside `spec`, so that applying a manifest doesn't lift them.

use std::str::FromStr;

use octelium_api::{
    Kind, Object,
    control::{SetLockRequest, SetLockResponse},
};
use tonic::Code;

use crate::{Inner, list, plan::Actor, refusal::Refusal};

/// Locks or unlocks what the request refers to.
pub async fn set(inner: &Inner, actor: &Actor, request: &SetLockRequest) -> Result<SetLockResponse, Refusal> {
    let kind = Kind::from_str(&request.kind)
        .map_err(|()| Refusal::at("kind", format!("this server has no kind `{}`", request.kind.escape_default())))?;
    let reference = request.r#ref.clone().unwrap_or_default();
    let done = inner.store.change(actor, |plan| {
        let stored = list::find(plan.state(), kind, &reference.uid, &reference.name, "ref")?.clone();
        let mut object = stored.object.clone();
        let Some(is_locked) = lock_of(&mut object) else {
            let message = format!("a {kind} has no lock; User, Session, Credential, Device and IdentityProvider have");
            return Err(Refusal::at("kind", message));
        };
        *is_locked = request.is_locked;
        let session = actor.session_uid().and_then(|uid| plan.state().get(Kind::Session, uid));
        let own = object.uid() == actor.user_uid
            || Some(object.uid()) == actor.session_uid()
            || session.is_some_and(|session| session.object.owners().any(|owner| owner == object.uid()));
        if request.is_locked && own {
            return Err(Refusal::new(Code::PermissionDenied, format!("you can't lock your own {kind}")));
        }
        if object.metadata().is_some_and(|metadata| metadata.is_system) {
            let message = format!("{kind} `{}` is part of the system and can't be changed", object.name());
            return Err(Refusal::new(Code::PermissionDenied, message));
        }
        plan.edit(&stored, object);
        Ok(())
    });
    Ok(SetLockResponse { index: done.await?.index })
}

fn lock_of(object: &mut Object) -> Option<&mut bool> {
    Some(match object {
        Object::User(user) => &mut user.status.get_or_insert_default().is_locked,
        Object::Session(session) => &mut session.status.get_or_insert_default().is_locked,
        Object::Credential(credential) => &mut credential.status.get_or_insert_default().is_locked,
        Object::Device(device) => &mut device.status.get_or_insert_default().is_locked,
        Object::IdentityProvider(provider) => &mut provider.status.get_or_insert_default().is_locked,
        _ => return None,
    })
}
