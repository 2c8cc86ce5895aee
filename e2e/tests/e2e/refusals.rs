//! Wrong input is refused at apply, with a sentence that says what to write.

use anyhow::{Result, bail, ensure};

use crate::shop::Shop;

#[test]
fn wrong_input_is_refused_with_what_to_write_instead() -> Result<()> {
    let shop = Shop::together()?;
    let cases = [
        ("{brokers: {replicas: 2, minInSyncReplicas: 3}}", "write at most replicas"),
        ("{controllers: {replicas: 2}}", "write 1, 3 or 5"),
        ("{brokers: {config: {brokerRole: SLAVE}}}", "remove it, Gantry sets these"),
        ("{version: 5.3.2}", "write 5.5.0"),
    ];
    for (spec, sentence) in cases {
        let manifest = format!(
            "{{apiVersion: rocketmq.gantry.dev/v1alpha1, kind: BrokerCluster, metadata: {{name: wrong}}, spec: {spec}}}"
        );
        match shop.namespace.apply(&manifest) {
            Ok(()) => bail!("{spec} was accepted"),
            Err(error) => ensure!(format!("{error:#}").contains(sentence), "{spec}: {error:#}"),
        }
    }
    Ok(())
}

#[test]
fn every_field_is_explained() -> Result<()> {
    let _shop = Shop::together()?;
    let text = gantry_e2e::kubectl::kubectl(&["explain", "brokercluster.spec.brokers.minInSyncReplicas"])?;
    ensure!(text.contains("must hold a message before it is acknowledged"), "{text}");
    Ok(())
}
