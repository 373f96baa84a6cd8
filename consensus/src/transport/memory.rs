//! Nodes of one test process that reach each other by function calls, and can be cut off.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture};
use parking_lot::Mutex;

use super::{Link, LinkError, Method, Parts};
use crate::replica::Replica;

/// Who is where, and between whom nothing passes.
#[derive(Clone, Default)]
pub struct Switch {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    nodes: HashMap<String, Replica>,
    cut: HashSet<String>,
    unanswered: HashSet<String>,
}

impl Switch {
    /// The way out of the node at this address.
    pub fn link(&self, from: &str) -> Arc<dyn Link> {
        Arc::new(Port { switch: self.clone(), from: from.to_owned() })
    }

    pub fn plug(&self, address: &str, replica: &Replica) {
        self.inner.lock().nodes.insert(address.to_owned(), replica.clone());
    }

    pub fn unplug(&self, address: &str) {
        self.inner.lock().nodes.remove(address);
    }

    /// Nothing passes from or to the node any more.
    pub fn cut(&self, address: &str) {
        self.inner.lock().cut.insert(address.to_owned());
    }

    /// What the node asks arrives, and no answer comes back.
    pub fn lose_answers(&self, address: &str) {
        self.inner.lock().unanswered.insert(address.to_owned());
    }

    pub fn heal(&self) {
        let mut inner = self.inner.lock();
        inner.cut.clear();
        inner.unanswered.clear();
    }

    fn replica(&self, from: &str, to: &str) -> Option<Replica> {
        let inner = self.inner.lock();
        let is_cut = inner.cut.contains(from) || inner.cut.contains(to);
        inner.nodes.get(to).filter(|_| !is_cut).cloned()
    }
}

struct Port {
    switch: Switch,
    from: String,
}

impl Link for Port {
    fn call(
        &self,
        node: u64,
        address: &str,
        method: Method,
        request: Parts,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, LinkError>> {
        let (switch, from, address) = (self.switch.clone(), self.from.clone(), address.to_owned());
        Box::pin(async move {
            let unreachable =
                |reason: &str| LinkError::Unreachable { node, address: address.clone(), reason: reason.to_owned() };
            let target = switch.replica(&from, &address).ok_or_else(|| unreachable("it is cut off"))?;
            let source = switch.inner.lock().nodes.get(&from).map(Replica::node_id);
            let source = source.ok_or_else(|| unreachable("this node is not plugged in"))?;
            if target.node_id() != node {
                return Err(unreachable("another node answers there"));
            }
            let no_answer = |reason: String| LinkError::NoAnswer { node, address: address.clone(), reason };
            let answer = tokio::time::timeout(within, target.answer(source, method, Box::pin(request.map(Ok)))).await;
            let answer =
                answer.map_err(|_| no_answer("timeout".to_owned()))?.map_err(|error| no_answer(error.to_string()))?;
            if switch.inner.lock().unanswered.contains(&from) {
                return Err(no_answer("the answer is lost".to_owned()));
            }
            // Cut off meanwhile: the answer is lost.
            switch.replica(&from, &address).map(|_| answer).ok_or_else(|| no_answer("it is cut off".to_owned()))
        })
    }
}
