//! `update`: what is changed by a command rather than by a manifest. All else of the resource stays.

use clap::Subcommand;
use clap_complete::ArgValueCompleter;
use octelium_api::{
    Kind, Object,
    core::{Authenticator, Config, Device, Secret, authenticator, device},
};
use tonic::{Code, Request, Status, metadata::MetadataValue};

use super::create::{config, secret};
use crate::{
    input, kinds, names,
    output::{self, Format, plain},
    refusal::{Refusal, perhaps_done},
    session::Cluster,
};

/// What to update.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Replace what a Secret holds
    #[command(visible_aliases = ["sec", "secrets"])]
    Secret(SecretArguments),
    /// Replace the data of a Config
    #[command(visible_aliases = ["cfg", "conf"])]
    Config(ConfigArguments),
    /// Approve or reject a Device
    #[command(visible_alias = "dev")]
    Device(Decision),
    /// Approve or reject an Authenticator
    #[command(visible_alias = "authn")]
    Authenticator(Decision),
}

#[derive(Debug, clap::Args)]
struct SecretArguments {
    /// Its name
    #[arg(add = ArgValueCompleter::new(names::complete))]
    name: String,
    #[command(flatten)]
    content: secret::Content,
    /// Print the Secret, without its value, instead of a sentence
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

#[derive(Debug, clap::Args)]
struct ConfigArguments {
    /// Its name
    #[arg(add = ArgValueCompleter::new(names::complete))]
    name: String,
    #[command(flatten)]
    source: input::Source,
    /// Print the Config, without its data, instead of a sentence
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

#[derive(Debug, clap::Args)]
struct Decision {
    /// Its name
    #[arg(add = ArgValueCompleter::new(names::complete))]
    name: String,
    /// It may be used
    #[arg(long, conflicts_with = "reject")]
    approve: bool,
    /// It may not be used
    #[arg(long)]
    reject: bool,
    /// Print it instead of a sentence
    #[arg(short, long, visible_alias = "output", value_enum)]
    out: Option<Format>,
}

/// Reads the resource, changes that one thing of it and writes it back, unless somebody else changed it meanwhile.
///
/// # Errors
/// If there is no such resource, the input can't be read, or the server refuses.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Secret(arguments) => {
            let (public, data) = arguments.content.read(&arguments.name)?;
            let (mut secret, read): (Secret, _) = get(cluster, Kind::Secret, &arguments.name).await?;
            secret.data = Some(data);
            let spec = secret.spec.get_or_insert_default();
            spec.data = public.or(spec.data.take());
            let updated = cluster.core(async |core| core.update_secret(read.matching(secret.clone())?).await).await;
            tell(&updated.map_err(|error| read.explain(error))?.into(), arguments.out)
        }
        What::Config(arguments) => {
            let data = config::data(&arguments.source)?;
            let (mut config, read): (Config, _) = get(cluster, Kind::Config, &arguments.name).await?;
            config.data = Some(data);
            config.spec.get_or_insert_default();
            let updated = cluster.core(async |core| core.update_config(read.matching(config.clone())?).await).await;
            tell(&updated.map_err(|error| read.explain(error))?.into(), arguments.out)
        }
        What::Device(arguments) => {
            use device::spec::State;
            let Some(state) = arguments.choose(State::Active, State::Rejected) else { return Ok(()) };
            let (mut device, read): (Device, _) = get(cluster, Kind::Device, &arguments.name).await?;
            device.spec.get_or_insert_default().state = state.into();
            let updated = cluster.core(async |core| core.update_device(read.matching(device.clone())?).await).await;
            tell(&updated.map_err(|error| read.explain(error))?.into(), arguments.out)
        }
        What::Authenticator(arguments) => {
            use authenticator::spec::State;
            let Some(state) = arguments.choose(State::Active, State::Rejected) else { return Ok(()) };
            let (mut authenticator, read): (Authenticator, _) =
                get(cluster, Kind::Authenticator, &arguments.name).await?;
            authenticator.spec.get_or_insert_default().state = state.into();
            let updated =
                cluster.core(async |core| core.update_authenticator(read.matching(authenticator.clone())?).await).await;
            tell(&updated.map_err(|error| read.explain(error))?.into(), arguments.out)
        }
    }
}

impl Decision {
    fn choose<T>(&self, approved: T, rejected: T) -> Option<T> {
        match (self.approve, self.reject) {
            (true, _) => Some(approved),
            (false, true) => Some(rejected),
            // Scripts may count on this being no failure.
            (false, false) => {
                output::note("nothing was asked for: give --approve or --reject");
                None
            }
        }
    }
}

async fn get<T: TryFrom<Object>>(cluster: &mut Cluster, kind: Kind, name: &str) -> anyhow::Result<(T, Read)> {
    let object = match cluster.core(async |core| kinds::get(core, kind, name).await).await {
        Ok(object) => object,
        Err(error) => return Err(names::with_hint(cluster, kind, name, error).await),
    };
    let read = Read { kind, name: object.name().to_owned(), version: object.resource_version().to_owned() };
    let object = T::try_from(object).map_err(|_| Refusal::from(Status::internal("the answer is of another kind")))?;
    Ok((object, read))
}

/// What was read before it is written.
struct Read {
    kind: Kind,
    name: String,
    version: String,
}

impl Read {
    /// A request that is only granted while the resource is still what was read.
    fn matching<T>(&self, message: T) -> Result<Request<T>, Status> {
        let version = MetadataValue::try_from(self.version.as_str())
            .map_err(|_| Status::internal("the resourceVersion can't be sent back"))?;
        let mut request = Request::new(message);
        request.metadata_mut().insert("if-match", version);
        Ok(request)
    }

    /// Says so where it isn't any more.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match error.downcast_ref::<Refusal>() {
            Some(refusal) if refusal.code() != Code::OutOfRange => error,
            // Then it was perhaps this program.
            Some(refusal) if refusal.is_repeated() => perhaps_done(error),
            Some(_) => error.context(format!(
                "{} {} was changed by somebody else meanwhile; nothing was updated",
                self.kind, self.name
            )),
            None => error,
        }
    }
}

/// Says that `object` was updated, or shows it in the form asked for.
fn tell(object: &Object, out: Option<Format>) -> anyhow::Result<()> {
    let text = match out {
        Some(format) => output::resource(object, format)?,
        None => format!("{} `{}` successfully updated\n", object.kind(), plain(object.name())),
    };
    Ok(output::result(&text)?)
}
