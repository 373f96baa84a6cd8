//! `create config`: data that isn't secret, for what refers to it.

use octelium_api::core::{
    Config,
    config::{Data, Spec, data},
};

use super::{named, tell};
use crate::{Usage, input, output::Format, refusal::perhaps_done, session::Cluster};

/// The server takes no more, in bytes.
const VALUE_BYTES_MAX: u64 = 3 << 20;

/// The Config to create.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Its name
    name: String,
    #[command(flatten)]
    source: input::Source,
    /// Print the Config, without its data, instead of a sentence
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

/// Creates the Config.
///
/// # Errors
/// If the data can't be read, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config {
        metadata: Some(named(&arguments.name)),
        spec: Some(Spec::default()),
        data: Some(data(&arguments.source)?),
        ..Default::default()
    };
    let created = cluster.core(async |core| core.create_config(config.clone()).await).await;
    tell(&created.map_err(perhaps_done)?.into(), arguments.out)
}

/// What the flags say.
///
/// # Errors
/// If they say nothing, or it can't be read.
pub fn data(source: &input::Source) -> anyhow::Result<Data> {
    match source.read(VALUE_BYTES_MAX)? {
        Some(value) => Ok(Data { r#type: Some(data::Type::ValueBytes(value)) }),
        None => Err(Usage("no data: give --value, --file PATH, or --file - for stdin".into()).into()),
    }
}
