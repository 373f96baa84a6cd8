//! The callers of a run, each a task that goes on until it is stopped.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use octelium_api::{
    control::SetLockRequest,
    core::{GenerateCredentialTokenRequest, credential_token},
    meta::{GetOptions, ObjectReference},
};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::{
    client::{Api, Caller},
    history::History,
    nodes::{DOMAIN, HTTP, VIEW_AGE_MAX},
};
use crate::{
    invariants::{
        answered::Failed,
        answered_window::Span,
        register::{Does, Operation},
        revoked::{LetIn, Revocation},
    },
    sim::Random,
};

/// The strict limit: so many in each window.
pub const LIMIT: u64 = 100;
pub const WINDOW: Duration = Duration::from_secs(2);
/// Resources that are written and read.
pub const REGISTERS: usize = 3;
/// Callers are patient for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const CALL_WITHIN: Duration = Duration::from_secs(12);
/// Tokens of the administrator are younger.
const LOG_IN_EVERY: Duration = Duration::from_secs(600);

const MANIFEST: &str = "
kind: Service
metadata: {name: open}
spec: {mode: HTTP, isPublic: true, isAnonymous: true, config: {http: {response: {direct: {inline: ok}}}}}
---
kind: Service
metadata: {name: closed}
spec:
  mode: HTTP
  isPublic: true
  authorization: {policies: [allow-all]}
  config: {http: {response: {direct: {inline: ok}}}}
---
kind: Service
metadata: {name: limited}
spec:
  mode: HTTP
  isPublic: true
  isAnonymous: true
  config:
    http:
      response: {direct: {inline: ok}}
      plugins:
      - {name: limit, condition: {matchAny: true}, rateLimit: {limit: 100, window: {seconds: 2}}}
";

/// What the callers share.
#[derive(Clone)]
pub struct World {
    pub history: Arc<History>,
    pub addresses: Arc<Vec<Ipv4Addr>>,
    pub ca: PathBuf,
    pub root_token: String,
    access: Arc<Mutex<(String, u64)>>,
}

impl World {
    pub fn new(history: Arc<History>, addresses: Vec<Ipv4Addr>, ca: PathBuf, root_token: String) -> Self {
        Self { history, addresses: Arc::new(addresses), ca, root_token, access: Arc::default() }
    }

    /// The administrator at a node.
    ///
    /// # Errors
    /// If that node doesn't let it in.
    pub async fn api(&self, node: usize) -> Result<Api> {
        let api = Api::anonymous(self.addresses[node], &self.ca, CALL_WITHIN)?;
        let (known, since) = self.access.lock().clone();
        let age = Duration::from_nanos(self.history.now().saturating_sub(since));
        if !known.is_empty() && age < LOG_IN_EVERY {
            return api.with(&known);
        }
        let token = api.log_in(&self.root_token).await.context("logging in")?;
        *self.access.lock() = (token.clone(), self.history.now());
        api.with(&token)
    }

    /// Makes the resources.
    ///
    /// # Errors
    /// If a node refuses.
    pub async fn prepare(&self) -> Result<()> {
        let api = self.api(0).await?;
        api.apply(MANIFEST).await?;
        for register in 0..REGISTERS {
            api.apply(&register_text(register, 0)).await?;
        }
        Ok(())
    }

    /// A User who may call the closed Service, and its token.
    ///
    /// # Errors
    /// If a node refuses.
    pub async fn visitor(&self, random: &mut Random, number: u64) -> Result<String> {
        let node = random.below(self.addresses.len() as u64) as usize;
        let api = self.api(node).await?;
        api.apply(&format!(
            "kind: User\nmetadata: {{name: visitor-{number}}}\nspec: {{type: WORKLOAD}}\n---\nkind: Credential\n\
             metadata: {{name: visitor-{number}-key}}\nspec: {{type: ACCESS_TOKEN, user: visitor-{number}}}\n"
        ))
        .await?;
        let name = format!("visitor-{number}-key");
        let credential_ref = Some(ObjectReference { name, ..ObjectReference::default() });
        let request = GenerateCredentialTokenRequest { credential_ref };
        match api.core().generate_credential_token(request).await?.into_inner().r#type {
            Some(credential_token::Type::AccessToken(token)) => Ok(token.access_token),
            _ => bail!("the Credential has no access token"),
        }
    }

    fn http(&self, node: usize) -> SocketAddr {
        (self.addresses[node], HTTP).into()
    }

    /// All callers.
    pub fn begin(&self, seed: u64) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let tokens = watch::Sender::new(String::new());
        let values = Arc::new(AtomicU64::new(1));
        for node in 0..self.addresses.len() {
            for _ in 0..2 {
                tasks.spawn(self.clone().ask_limited(node));
            }
            tasks.spawn(self.clone().ask_open(node));
            tasks.spawn(self.clone().visit(node, tokens.subscribe()));
        }
        for number in 0..3 {
            let random = Random::new(seed ^ (0xa11 + number));
            tasks.spawn(self.clone().write_and_read(random, values.clone()));
        }
        tasks.spawn(self.clone().revoke(Random::new(seed ^ 0xbad), tokens));
        tasks
    }

    async fn ask_limited(self, node: usize) {
        let mut caller = Caller::new(self.http(node), &format!("limited.{DOMAIN}"), None, ANSWER_WITHIN);
        loop {
            let sent = self.history.now();
            let answer = caller.ask().await;
            let answered = self.history.now();
            {
                let mut inner = self.history.inner.lock();
                inner.limited += 1;
                if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                    inner.admitted.push(Span { sent, answered });
                }
            }
            // Whoever isn't there isn't asked without end.
            sleep(Duration::from_millis(if answer.is_ok() { 15 } else { 100 })).await;
        }
    }

    async fn ask_open(self, node: usize) {
        let mut caller = Caller::new(self.http(node), &format!("open.{DOMAIN}"), None, ANSWER_WITHIN);
        loop {
            let sent = self.history.now();
            let answer = caller.ask().await;
            let ended = self.history.now();
            let why = match &answer {
                Ok(answer) if answer.status == 200 => None,
                Ok(answer) => Some(format!("{} {}", answer.status, answer.code.as_deref().unwrap_or_default())),
                Err(error) => Some(format!("{error:#}")),
            };
            {
                let mut inner = self.history.inner.lock();
                inner.open += 1;
                inner.failed.extend(why.map(|why| Failed { node, sent, ended, why }));
            }
            sleep(Duration::from_millis(if answer.is_ok() { 20 } else { 100 })).await;
        }
    }

    /// Who is locked out after a while; each time it is somebody else.
    async fn visit(self, node: usize, mut tokens: watch::Receiver<String>) {
        let host = format!("closed.{DOMAIN}");
        loop {
            let token = tokens.borrow_and_update().clone();
            let mut caller = Caller::new(self.http(node), &host, Some(&token), ANSWER_WITHIN);
            while !tokens.has_changed().unwrap_or(false) {
                let sent = self.history.now();
                let answer = caller.ask().await;
                if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                    self.history.inner.lock().let_in.push(LetIn { node, sent });
                }
                sleep(Duration::from_millis(if answer.is_ok() { 10 } else { 100 })).await;
            }
        }
    }

    /// Writes and reads registers, at any node.
    async fn write_and_read(self, mut random: Random, values: Arc<AtomicU64>) {
        loop {
            let register = random.below(REGISTERS as u64) as usize;
            let node = random.below(self.addresses.len() as u64) as usize;
            if random.chance(50) {
                let value = values.fetch_add(1, Ordering::Relaxed);
                self.write(node, register, value).await;
            } else {
                self.read(node, register).await;
            }
            sleep(Duration::from_millis(30 + random.below(60))).await;
        }
    }

    async fn write(&self, node: usize, register: usize, value: u64) {
        let Ok(api) = self.api(node).await else { return };
        let began = self.history.now();
        // Noted before it is sent: a run may end while it is under way.
        let place = {
            let operations = &mut self.history.inner.lock().operations[register];
            operations.push(Operation { does: Does::Write(value), began, ended: None });
            operations.len() - 1
        };
        if api.apply(&register_text(register, value)).await.is_ok() {
            let ended = self.history.now();
            self.history.inner.lock().operations[register][place].ended = Some(ended);
        }
    }

    /// Whether there was an answer.
    pub async fn read(&self, node: usize, register: usize) -> bool {
        let Ok(api) = self.api(node).await else { return false };
        let began = self.history.now();
        let options = GetOptions { name: format!("register-{register}"), ..GetOptions::default() };
        let Ok(group) = api.core().get_group(options).await else { return false };
        let ended = self.history.now();
        let metadata = group.into_inner().metadata.unwrap_or_default();
        let value = metadata.annotations.get("value").and_then(|value| value.parse().ok());
        let mut inner = self.history.inner.lock();
        match value {
            Some(value) => {
                inner.operations[register].push(Operation { does: Does::Read(value), began, ended: Some(ended) });
            }
            None => inner.broken.push(format!("register: {register} has no value")),
        }
        true
    }

    /// Lets visitors in and locks them out, each once: a call that comes late changes nothing then.
    async fn revoke(self, mut random: Random, tokens: watch::Sender<String>) {
        for number in 0.. {
            let Ok(token) = self.visitor(&mut random, number).await else {
                sleep(Duration::from_millis(200)).await;
                continue;
            };
            tokens.send_replace(token);
            sleep(Duration::from_millis(300 + random.below(700))).await;
            let began = self.history.now();
            self.lock(&mut random, number).await;
            let acknowledged = self.history.now();
            // Long enough to see who lets it in too late.
            loop {
                sleep(Duration::from_millis(100)).await;
                let since = Duration::from_nanos(self.history.now() - acknowledged);
                let is_calm = since >= Duration::from_millis(1_300) && !self.history.is_disturbed_since(began);
                if is_calm || since >= VIEW_AGE_MAX + Duration::from_secs(2) {
                    break;
                }
            }
            let until = self.history.now();
            let revocation = Revocation { began, acknowledged, until, is_disturbed: false };
            self.history.inner.lock().revocations.push(revocation);
        }
    }

    async fn lock(&self, random: &mut Random, number: u64) {
        let name = format!("visitor-{number}");
        let reference = ObjectReference { name, kind: "User".to_owned(), ..ObjectReference::default() };
        let request = SetLockRequest { kind: "User".to_owned(), r#ref: Some(reference), is_locked: true };
        loop {
            let node = random.below(self.addresses.len() as u64) as usize;
            if let Ok(api) = self.api(node).await
                && api.control().set_lock(request.clone()).await.is_ok()
            {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn register_text(register: usize, value: u64) -> String {
    format!("kind: Group\nmetadata: {{name: register-{register}, annotations: {{value: \"{value}\"}}}}\nspec: {{}}\n")
}
