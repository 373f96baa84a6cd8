//! Opens Secrets for injection: the only place where they leave their seal. Each worker keeps what it opened, ready to send.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use base64::Engine;
use http::{HeaderName, HeaderValue, header};
use octelium_actors::router::{Routes, UpstreamAuth};
use octelium_consensus::{SealingKey, Stored};
use octelium_http1::Headers;

use super::respond::{Code, Rejection};

/// Opened header values that one worker keeps.
const OPENED_MAX: usize = 4096;

/// The opened Secrets of one worker.
pub struct Secrets {
    sealing: Arc<SealingKey>,
    opened: RefCell<HashMap<Key, (Arc<Stored>, HeaderValue)>>,
}

/// The same Secret makes different headers.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    secret: Arc<str>,
    /// The user name of `basic`; bearer and custom differ by the prefix.
    form: Form,
}

#[derive(PartialEq, Eq, Hash, Clone)]
enum Form {
    Bearer,
    Basic(Arc<str>),
    Plain,
}

impl Secrets {
    /// Nothing opened yet.
    pub fn new(sealing: Arc<SealingKey>) -> Self {
        Self { sealing, opened: RefCell::default() }
    }

    /// Sets the upstream's credential.
    ///
    /// # Errors
    /// If the Secret is missing, can't be opened or can't stand in a header: nothing may be sent without it.
    pub fn inject(&self, auth: &UpstreamAuth, routes: &Routes, headers: &mut Headers) -> Result<(), Rejection> {
        let (name, secret, form): (HeaderName, &Arc<str>, Form) = match auth {
            UpstreamAuth::Bearer { secret } => (header::AUTHORIZATION, secret, Form::Bearer),
            UpstreamAuth::Basic { username, secret } => (header::AUTHORIZATION, secret, Form::Basic(username.clone())),
            UpstreamAuth::Custom { header, secret } => (header.clone(), secret, Form::Plain),
        };
        let value = self.value(routes, secret, form).map_err(|cause| Rejection::new(Code::SecretUnavailable, cause))?;
        // Under no other spelling either: the credential is ours alone.
        headers.remove_alike(&name);
        headers.append(&name, &value);
        Ok(())
    }

    fn value(&self, routes: &Routes, secret: &Arc<str>, form: Form) -> Result<HeaderValue, String> {
        let stored = routes.secrets.get(secret).ok_or_else(|| format!("Secret `{secret}` does not exist"))?;
        let key = Key { secret: secret.clone(), form };
        let mut opened = self.opened.borrow_mut();
        if let Some((of, value)) = opened.get(&key)
            && Arc::ptr_eq(of, stored)
        {
            return Ok(value.clone());
        }
        let plain = octelium_control::seal::open_data(&self.sealing, stored)
            .ok_or_else(|| format!("Secret `{secret}` can't be opened"))?;
        // A line feed that came with a file can't stand in a header.
        let plain = plain.strip_suffix(b"\n").unwrap_or(&plain);
        let plain = plain.strip_suffix(b"\r").unwrap_or(plain);
        let bytes = match &key.form {
            Form::Bearer => [b"Bearer ", plain].concat(),
            Form::Basic(username) => {
                let pair = [username.as_bytes(), b":", plain].concat();
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)).into_bytes()
            }
            Form::Plain => plain.to_vec(),
        };
        let mut value =
            HeaderValue::from_bytes(&bytes).map_err(|_| format!("Secret `{secret}` can't stand in a header"))?;
        value.set_sensitive(true);
        if opened.len() >= OPENED_MAX {
            opened.clear();
        }
        opened.insert(key, (stored.clone(), value.clone()));
        Ok(value)
    }
}
