//! Every figure but the histograms: its name, what it means, where it comes from.

use std::fmt;

use octelium_actors::{membership::envelope::Dropped, rate_limiter::cells::Waited};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
};

use super::{Sources, lost};
use crate::{proxy::respond::Code, telemetry::counts::CLASSES};

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        self.requests(&mut out)?;
        self.raft(&mut out)?;
        self.gossip(&mut out)?;
        self.rate_limits(&mut out)
    }
}

impl Sources {
    fn requests(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauges("build_info", "The program", &[([("version", env!("CARGO_PKG_VERSION"))], 1.0)])?;
        out.gauge(
            "ready",
            "1 if callers may be sent here, as /readyz says",
            f64::from(u8::from(self.unready().is_none())),
        )?;
        let by_class: Vec<_> =
            CLASSES.iter().zip(self.totals.by_class()).map(|(class, n)| ([("class", *class)], n)).collect();
        out.counters(
            "requests",
            "Requests that ended, by the class of their status; none: the caller went away",
            &by_class,
        )?;
        let by_code: Vec<_> =
            Code::ALL.iter().zip(self.totals.by_code()).map(|(code, n)| ([("code", code.text())], n)).collect();
        out.counters("refusals", "Requests that this node refused, or whose upstream failed, by their code", &by_code)?;
        out.gauge("connections", "Connections of callers", whole(self.connections.open()))?;
        out.gauge(
            "requests_under_way",
            "Requests of callers whose answers aren't complete",
            whole(self.connections.under_way()),
        )?;
        out.counter("access_log_lost_records", "Records of the access log that were dropped or not written", lost(self))
    }

    fn raft(&self, out: &mut Out<'_>) -> fmt::Result {
        let standing = self.replica.standing();
        out.gauge("raft_term", "The term", standing.term as f64)?;
        out.gauge("raft_is_leader", "1 on the node that leads", f64::from(u8::from(standing.is_leader)))?;
        out.gauge("raft_has_leader", "1 if this node knows a leader", f64::from(u8::from(standing.has_leader)))?;
        out.counter(
            "raft_leader_changes",
            "How often this node applied an entry of another leader than that of the entry before",
            self.replica.figures().leader_changes(),
        )?;
        out.gauge("raft_log_index", "The last entry of this node's log", standing.last_log as f64)?;
        out.gauge("raft_applied_index", "The last entry that this node applied", standing.applied as f64)?;
        out.gauge("view_index", "The entry whose state requests are decided by", self.views.index() as f64)?;
        let age = self.view_age.freshness.age();
        let age = if age == std::time::Duration::MAX { f64::INFINITY } else { age.as_secs_f64() };
        out.gauge("view_age_seconds", "How long no leader with a quorum was heard; viewAgeMax is its bound", age)?;
        let members =
            [([("role", "voter")], whole(standing.voters)), ([("role", "learner")], whole(standing.learners))];
        out.gauges("raft_members", "Members of the cluster", &members)?;
        if standing.is_leader {
            let members = self.replica.known_members();
            let named: Vec<_> = members.iter().map(|member| (format!("{:016x}", member.id), member)).collect();
            let lags: Vec<_> =
                named.iter().map(|(node, member)| ([("node", node.as_str())], member.lag as f64)).collect();
            out.gauges("raft_member_lag_entries", "Entries that a member is known to lack; told by the leader", &lags)?;
            let silent = named.iter().filter_map(|(node, member)| {
                member.silent.map(|silent| ([("node", node.as_str())], silent.as_secs_f64()))
            });
            let silent: Vec<_> = silent.collect();
            out.gauges("raft_member_silent_seconds", "How long a member did not answer; told by the leader", &silent)?;
        }
        Ok(())
    }

    fn gossip(&self, out: &mut Out<'_>) -> fmt::Result {
        let peers = self.views.peers.all();
        let live = peers.values().filter(|peer| peer.is_live).count();
        let members = [([("state", "live")], whole(live)), ([("state", "silent")], whole(peers.len() - live))];
        out.gauges("gossip_members", "Other nodes that gossip knows", &members)?;
        let counts = self.views.peers.counts();
        let mut datagrams = vec![
            ([("result", "accepted")], counts.accepted()),
            ([("result", "sent")], counts.sent()),
            ([("result", "unsent")], counts.unsent()),
        ];
        datagrams.extend(Dropped::ALL.map(|why| ([("result", why.name())], counts.dropped(why))));
        out.counters("gossip_datagrams", "Datagrams of gossip, by what became of them", &datagrams)
    }

    fn rate_limits(&self, out: &mut Out<'_>) -> fmt::Result {
        let cells = self.views.limiter.cells();
        let figures = cells.figures();
        out.gauge(
            "rate_limit_granted_counters",
            "Counters of which something is used, in the whole cluster",
            whole(self.replica.state().grants().len()),
        )?;
        out.gauge("rate_limit_counters", "Counters that this node knows", whole(cells.len()))?;
        out.gauge("rate_limit_leases", "Leases that this node holds", figures.leases() as f64)?;
        out.counter(
            "rate_limit_asks",
            "Asks for leases that this node sent, one for all counters at a time",
            figures.asks(),
        )?;
        let waits = Waited::ALL.map(|waited| ([("result", result(waited))], figures.waits(waited)));
        out.counters("rate_limit_waits", "Requests that waited at the edge of a limit", &waits)?;
        out.seconds("rate_limit_wait_seconds", "All the time that they waited", figures.waited().as_secs_f64())?;
        out.counter(
            "rate_limit_crowded",
            "Requests for which there was no room for a counter or a wait",
            cells.crowded(),
        )
    }
}

fn result(waited: Waited) -> &'static str {
    match waited {
        Waited::Admitted => "admitted",
        Waited::Exceeded => "exceeded",
        Waited::Unavailable => "unavailable",
    }
}

fn whole(count: usize) -> f64 {
    count as f64
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<L: EncodeLabelSet>(&mut self, name: &str, help: &str, values: &[(L, f64)]) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.iter().try_for_each(|(labels, value)| metric.encode_family(labels)?.encode_gauge(value))
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters<L: EncodeLabelSet>(&mut self, name: &str, help: &str, values: &[(L, u64)]) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        let mut each = values.iter();
        each.try_for_each(|(labels, value)| {
            metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }
}
