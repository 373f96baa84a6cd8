//! `ratelimit`: who is near or over which limit, and a fresh start for them.

use std::time::Duration;

use clap::Subcommand;
use octelium_api::control::{
    ListRateLimitsRequest, ListRateLimitsResponse, RateLimit, RateLimitSelector, ResetRateLimitsRequest,
};
use serde_json::{Value, json};

use crate::{
    Usage,
    output::{self, Format, plain},
    session::Cluster,
    time,
};

const COLUMNS: [&str; 7] = ["Service", "Plugin", "Key", "Used", "Held", "Limit", "Back in"];

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the counters of strict rate limits, the fullest first: USED was admitted within the last window, HELD is with nodes
    /// for admissions to come
    Get {
        #[command(flatten)]
        which: Which,
        /// So many at most
        #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// A form for programs
        #[arg(short, long, value_enum, value_name = "FORMAT")]
        out: Option<Format>,
    },
    /// Forget what counters have admitted, so that their callers start afresh
    Reset {
        #[command(flatten)]
        which: Which,
        /// All counters of all Services
        #[arg(long, conflicts_with_all = ["service", "plugin", "key"])]
        all: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Of this Service alone
    service: Option<String>,
    /// Of this plugin alone
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Of this key alone, as `get` shows it
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

impl Which {
    fn selector(&self) -> RateLimitSelector {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        RateLimitSelector { service: text(&self.service), plugin: text(&self.plugin), key: text(&self.key) }
    }
}

/// Does it.
///
/// # Errors
/// If there is no such Service, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.command {
        Command::Get { which, limit, out } => {
            let request = ListRateLimitsRequest { selector: Some(which.selector()), limit: *limit };
            let found = cluster.control(async |control| control.list_rate_limits(request.clone()).await).await?;
            if let Some(format) = out {
                return Ok(output::result(&output::document(&document(&found), *format)?)?);
            }
            if found.is_partial {
                output::warning("there are too many counters to look at them all: these are the fullest");
            }
            if found.unnamed > 0 && which.selector() != RateLimitSelector::default() {
                output::warning(&unknown(found.unnamed));
            }
            let left = found.total.saturating_sub(found.rate_limits.len() as u64);
            output::result(&match found.rate_limits.as_slice() {
                [] => "No counter is in use\n".to_owned(),
                some => output::table(&COLUMNS, some.iter().map(cells).collect()),
            })?;
            if left > 0 {
                output::note(&format!("{left} more are less full; --limit shows more"));
            }
            Ok(())
        }
        Command::Reset { which, all } => {
            let selector = which.selector();
            if selector == RateLimitSelector::default() && !all {
                return Err(Usage("say which counters: a Service, --plugin, --key, or --all".to_owned()).into());
            }
            let request = ResetRateLimitsRequest { selector: Some(selector), all: *all };
            let done = cluster.control(async |control| control.reset_rate_limits(request.clone()).await).await?;
            if done.unnamed > 0 {
                output::warning(&(unknown(done.unnamed) + "; --all resets them too"));
            }
            let text = match done.count {
                0 => "No counter was in use\n".to_owned(),
                1 => "1 counter reset\n".to_owned(),
                count => format!("{count} counters reset\n"),
            };
            Ok(output::result(&text)?)
        }
    }
}

fn unknown(counters: u64) -> String {
    let (some, are) =
        if counters == 1 { ("1 counter".to_owned(), "is") } else { (format!("{counters} counters"), "are") };
    format!(
        "{some} can't be told apart now and {are} left out: a node that knows them doesn't answer, or was started anew"
    )
}

fn cells(counter: &RateLimit) -> Vec<String> {
    // No node has had a request of it since its start: then its digest is all that is known.
    let service = if counter.service.is_empty() { counter.id.as_str() } else { &counter.service };
    vec![
        service.to_owned(),
        counter.plugin.clone(),
        plain(&counter.key).into_owned(),
        counter.used.to_string(),
        counter.held.to_string(),
        format!("{} in {}", counter.limit, brief(counter.window_milliseconds)),
        counter.back_in_milliseconds.map(brief).unwrap_or_default(),
    ]
}

fn brief(milliseconds: u64) -> String {
    match milliseconds {
        short @ ..1_000 => format!("{short}ms"),
        long => time::span(Duration::from_millis(long)),
    }
}

fn document(found: &ListRateLimitsResponse) -> Value {
    let counters = found.rate_limits.iter().map(|counter| {
        json!({
            "id": counter.id,
            "service": counter.service,
            "plugin": counter.plugin,
            "key": counter.key,
            "limit": counter.limit,
            "windowMilliseconds": counter.window_milliseconds,
            "used": counter.used,
            "held": counter.held,
            "backInMilliseconds": counter.back_in_milliseconds,
        })
    });
    json!({ "rateLimits": counters.collect::<Vec<_>>(), "total": found.total, "isPartial": found.is_partial })
}
