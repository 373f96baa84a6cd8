//! Decides which routes a change of the replicated state touches, and makes them anew.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use octelium_api::{Kind, Object};
use octelium_consensus::{State, Stored};

use super::{Routes, compile, route::Route};
use crate::{policies::Library, sessions::table::sides};

/// The Service whose policies decide who may call the control API.
const API_SERVICE: &str = "default.octelium-api";

/// Names of the keys under which tokens are authenticated.
const TOKEN_KEYS: &str = "token-mac/";

/// All routes.
pub struct Table {
    library: Arc<Library>,
    upstreams: compile::Upstreams,
    routes: HashMap<String, (Arc<Route>, Vec<Arc<str>>)>,
    view: Routes,
}

impl Table {
    /// Makes everything from `state`.
    pub fn build(domain: &str, library: Arc<Library>, state: &State) -> Self {
        let upstreams = compile::Upstreams::default();
        let mut table = Self { library, upstreams, routes: HashMap::new(), view: Routes::empty(domain) };
        for service in state.list(Kind::Service) {
            table.add(state, service.object.uid());
        }
        for secret in state.list(Kind::Secret) {
            table.view.secrets.insert(secret.object.name().into(), secret.clone());
        }
        table.set_keys(state);
        table.view.index = state.index();
        table
    }

    /// What is to be published.
    pub fn view(&self) -> Arc<Routes> {
        Arc::new(self.view.clone())
    }

    /// Makes anew what differs between the two states.
    pub fn follow(&mut self, old: &State, new: &State) {
        let mut services = HashSet::new();
        let mut namespaces = HashSet::new();
        let mut all = false;
        let mut policies_changed = false;
        for change in old.changes(new) {
            let (before, after) = sides(&change);
            let Some(any) = after.or(before) else {
                self.set_keys(new);
                continue;
            };
            match &any.object {
                Object::Service(_) => drop(services.insert(any.object.uid().to_owned())),
                Object::Namespace(_) => drop(namespaces.insert(any.object.name().to_owned())),
                Object::ClusterConfig(_) => all = true,
                Object::Policy(_) => policies_changed = true,
                Object::Secret(_) => match after {
                    Some(secret) => drop(self.view.secrets.insert(secret.object.name().into(), secret.clone())),
                    None => drop(self.view.secrets.remove(any.object.name())),
                },
                _ => {}
            }
        }
        if policies_changed {
            self.library.retain(new);
        }
        // Most changes concern no Service: only these are worth a look at all of them.
        if all || policies_changed || !namespaces.is_empty() {
            let touched = self.routes.iter().filter(|(_, (route, _))| {
                let namespace = route.reference.name.split_once('.').map_or("", |(_, namespace)| namespace);
                all || policies_changed && route.names_policies || namespaces.contains(namespace)
            });
            services.extend(touched.map(|(uid, _)| uid.clone()).collect::<Vec<_>>());
        }
        // All old ones go before a new one comes: it may have the hosts of one that was deleted.
        for uid in &services {
            self.remove(uid);
        }
        for uid in &services {
            self.add(new, uid);
        }
        self.view.index = new.index();
    }

    /// Services that can't be served, with the reason.
    pub fn broken(&self) -> Vec<(String, String)> {
        let routes = self.routes.values().filter_map(|(route, _)| {
            route.broken.as_ref().map(|reason| (route.reference.name.clone(), reason.to_string()))
        });
        routes.collect()
    }

    /// Only the keys of tokens, and only if they changed: workers forget what they verified when these are replaced.
    fn set_keys(&mut self, state: &State) {
        let keys = state.keys().filter(|(name, _)| name.starts_with(TOKEN_KEYS));
        let keys: Arc<[_]> = keys.map(|(name, sealed)| (name.to_owned(), sealed.clone())).collect();
        if keys != self.view.keys {
            self.view.keys = keys;
        }
    }

    fn remove(&mut self, uid: &str) {
        let Some((route, hosts)) = self.routes.remove(uid) else { return };
        for host in hosts {
            self.view.hosts.remove(&host);
        }
        if route.reference.name == API_SERVICE {
            self.view.api = None;
        }
    }

    fn add(&mut self, state: &State, uid: &str) {
        let Some(stored) = state.get(Kind::Service, uid) else { return };
        let Some(route) = compile::route(state, &self.library, &mut self.upstreams, &self.view.domain, stored) else {
            return;
        };
        let route = Arc::new(route);
        let hosts: Vec<Arc<str>> = if route.reference.name == API_SERVICE {
            self.view.api = Some(route.clone());
            Vec::new()
        } else if is_managed(stored) {
            // The gateway answers for it itself.
            Vec::new()
        } else {
            hosts(&route, &self.view.domain)
        };
        if let Some(reason) = &route.broken {
            tracing::error!(
                service = route.reference.name,
                %reason,
                "a Service can't be served: its requests are refused"
            );
        }
        for host in &hosts {
            self.view.hosts.insert(host.clone(), route.clone());
        }
        self.routes.insert(uid.to_owned(), (route, hosts));
    }
}

fn is_managed(stored: &Stored) -> bool {
    match &stored.object {
        Object::Service(service) => service.status.as_ref().is_some_and(|status| status.managed_service.is_some()),
        _ => false,
    }
}

/// All host names of a Service. A private one answers under `local.<domain>` alone.
fn hosts(route: &Route, domain: &str) -> Vec<Arc<str>> {
    let public = octelium_api::name::hosts(&route.reference.name, domain).public;
    let private = public.iter().map(|host| {
        let labels = host.strip_suffix(domain).unwrap_or_default();
        Arc::from(format!("{labels}local.{domain}"))
    });
    let mut hosts: Vec<Arc<str>> = private.collect();
    if route.is_public {
        // The usual name is the one that requests read anyway.
        let shared = |host: &String| if **host == *route.fqdn { route.fqdn.clone() } else { host.as_str().into() };
        hosts.extend(public.iter().map(shared));
    }
    hosts
}
