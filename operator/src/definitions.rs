//! `gantry crds --apply`: brings the definitions of all kinds to this version.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

/// The API server takes a definition and serves it a moment later; one that it does not serve by then, it never will.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Applies them with the client that the environment says.
///
/// # Errors
/// Where the API server refuses one, or does not serve it in time.
pub async fn run(field_manager: &str) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no Kubernetes is configured")?;
    apply(&client, field_manager).await
}

/// Applies them, and waits until the API server serves them.
///
/// # Errors
/// Where the API server refuses one, or does not serve it in time.
pub async fn apply(client: &Client, field_manager: &str) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply(field_manager).force();
    for definition in gantry_crds::definitions() {
        let name = definition.name_any();
        api.patch(&name, &params, &Patch::Apply(&definition)).await.with_context(|| format!("{name} was refused"))?;
        tokio::time::timeout(TIME_LIMIT, established(&api, &name))
            .await
            .with_context(|| format!("{name} was not served after {} s", TIME_LIMIT.as_secs()))??;
        tracing::info!(definition = name, "applied");
    }
    Ok(())
}

/// Asks again and again: a watch would need a right that can't be bound to names.
async fn established(api: &Api<CustomResourceDefinition>, name: &str) -> anyhow::Result<()> {
    loop {
        let definition = api.get(name).await.with_context(|| format!("{name} can't be read"))?;
        let conditions = definition.status.and_then(|s| s.conditions).unwrap_or_default();
        if conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
