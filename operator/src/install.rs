//! `gantry crds --apply`: brings the definitions of all kinds on an API server to those of this binary. Helm does so only when it installs.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

/// An API server takes a second or two to serve a definition.
const ESTABLISHED: Duration = Duration::from_secs(60);

/// Applies every definition as `field_manager` and waits until the API server serves it. Returns their names.
///
/// # Errors
/// Where the API server refuses one, or does not serve it within a minute.
pub async fn definitions(client: &Client, field_manager: &str) -> anyhow::Result<Vec<String>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut names = Vec::new();
    for definition in gantry_crds::definitions() {
        let name = definition.name_any();
        // What Gantry defines is Gantry's: whoever changed it by hand gives way.
        let how = PatchParams::apply(field_manager).force();
        api.patch(&name, &how, &Patch::Apply(&definition)).await.with_context(|| format!("apply {name}"))?;
        names.push(name);
    }
    for name in &names {
        established(&api, name).await?;
    }
    Ok(names)
}

/// Asks rather than watches: the right to get a definition by name is all that this needs.
async fn established(api: &Api<CustomResourceDefinition>, name: &str) -> anyhow::Result<()> {
    let asked = async {
        loop {
            let definition = api.get(name).await.with_context(|| format!("get {name}"))?;
            let conditions = definition.status.and_then(|s| s.conditions).unwrap_or_default();
            if conditions.iter().any(|c| c.type_ == "Established" && c.status == "True") {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    match tokio::time::timeout(ESTABLISHED, asked).await {
        Ok(result) => result,
        Err(_) => bail!("{name} is applied and not served after {} s", ESTABLISHED.as_secs()),
    }
}
