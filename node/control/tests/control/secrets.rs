//! Secrets: what goes in never comes out of the API.

use octelium_api::{Kind, core::ListSecretOptions};
use octelium_control::seal;
use tonic::Code;

use crate::support::{Cluster, by_name, code, deletion, fields, new_secret, put};

const VALUE: &str = "correct-horse-battery-staple";

#[tokio::test]
async fn no_answer_and_no_log_entry_holds_the_data() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let mut answers = vec![format!("{:?}", core.create_secret(new_secret("api-key", "earlier-value")).await.unwrap())];
    answers.push(format!("{:?}", core.update_secret(new_secret("api-key", VALUE)).await.unwrap()));
    answers.push(format!("{:?}", core.get_secret(by_name("api-key")).await.unwrap()));
    answers.push(format!("{:?}", core.list_secret(ListSecretOptions::default()).await.unwrap()));
    answers.push(format!("{:?}", cluster.apply(vec![put(new_secret("other", VALUE))]).await.unwrap()));
    let mut refused = new_secret("No Name", VALUE);
    refused.spec = None;
    answers.push(format!("{:?}", core.create_secret(refused).await.unwrap_err()));
    answers.push(format!("{:?}", cluster.replica.state()));
    for answer in answers {
        assert!(!answer.contains(VALUE) && !answer.contains("earlier-value"), "{answer}");
    }
    let stored = cluster.replica.state().by_name(Kind::Secret, "api-key").unwrap().clone();
    let sealed = stored.sealed.as_ref().unwrap();
    assert!(!sealed.windows(VALUE.len()).any(|part| part == VALUE.as_bytes()));
}

#[tokio::test]
async fn the_data_opens_again() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    core.create_secret(new_secret("api-key", VALUE)).await.unwrap();
    let stored = cluster.replica.state().by_name(Kind::Secret, "api-key").unwrap().clone();
    assert_eq!(cluster.open_secret(&stored), Some(VALUE.as_bytes().to_vec()));
    // Bound to its Secret: copied elsewhere it doesn't open.
    core.create_secret(new_secret("other", "x")).await.unwrap();
    let mut moved = (*cluster.replica.state().by_name(Kind::Secret, "other").unwrap().clone()).clone();
    moved.sealed = stored.sealed.clone();
    assert_eq!(cluster.open_secret(&moved), None);
}

#[tokio::test]
async fn an_equal_value_changes_nothing_and_another_one_does() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let version = |secret: octelium_api::core::Secret| secret.metadata.unwrap().resource_version;
    let first = version(core.create_secret(new_secret("api-key", VALUE)).await.unwrap().into_inner());
    assert_eq!(version(core.update_secret(new_secret("api-key", VALUE)).await.unwrap().into_inner()), first);
    assert_ne!(version(core.update_secret(new_secret("api-key", "other")).await.unwrap().into_inner()), first);
}

#[tokio::test]
async fn data_is_required_except_where_a_change_of_many_keeps_it() {
    let cluster = Cluster::start().await;
    let mut core = cluster.core();
    let mut without = new_secret("api-key", "");
    without.data = None;
    assert_eq!(fields(&core.create_secret(without.clone()).await.unwrap_err()), ["data"]);
    assert_eq!(fields(&cluster.apply(vec![put(without.clone())]).await.unwrap_err()), ["changes[0].data"]);
    assert_eq!(fields(&core.create_secret(new_secret("api-key", "")).await.unwrap_err()), ["data.value"]);
    core.create_secret(new_secret("api-key", VALUE)).await.unwrap();
    assert_eq!(fields(&core.update_secret(without.clone()).await.unwrap_err()), ["data"]);
    without.metadata.as_mut().unwrap().description = "mine".to_owned();
    cluster.apply(vec![put(without)]).await.unwrap();
    let stored = cluster.replica.state().by_name(Kind::Secret, "api-key").unwrap().clone();
    assert_eq!(stored.object.metadata().unwrap().description, "mine");
    assert_eq!(cluster.open_secret(&stored), Some(VALUE.as_bytes().to_vec()));
    assert_eq!(code(core.delete_secret(deletion("nothing")).await), Code::NotFound);
}

impl Cluster {
    fn open_secret(&self, stored: &octelium_consensus::Stored) -> Option<Vec<u8>> {
        seal::open_data(self.sealing(), stored).map(|data| data.to_vec())
    }
}

#[tokio::test]
async fn the_public_half_is_answered() {
    use octelium_api::core::secret::{Spec, spec};
    let cluster = Cluster::start().await;
    let mut secret = new_secret("tls-key", VALUE);
    let public = spec::Data { r#type: Some(spec::data::Type::Value("a certificate".to_owned())) };
    secret.spec = Some(Spec { data: Some(public) });
    let made = cluster.core().create_secret(secret.clone()).await.unwrap().into_inner();
    assert_eq!((made.spec, made.data), (secret.spec, None));
}
