//! TLS against the engine's own implementation of it.

use std::sync::Arc;
use std::time::Duration;

use gantry::engine::{ConfigTarget, Engine, RemotingEngine, Tls};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};

use super::processes::Machine;
use super::{Test, at, patient};

impl Test {
    pub async fn a_process_that_speaks_tls_is_spoken_to_and_plain_connections_are_not_answered(&mut self) {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let port = Machine::port();
        self.machine.name_server_with_tls("tls", port, &own.cert.pem(), &own.signing_key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = RemotingEngine::with_connect(patient(), Arc::new(Tls::new(Arc::new(config))));
        let target = ConfigTarget::NameServer(at(port));
        let listens = async {
            loop {
                match tls.config(&self.addresses.cluster, &target).await {
                    Ok(keys) => return keys,
                    Err(error) => println!("not yet: {error}"),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let keys = tokio::time::timeout(Duration::from_secs(120), listens).await.expect("it never answered over TLS");
        assert_eq!(keys.get("listenPort"), Some(&port.to_string()));
        let error = self.engine.config(&self.addresses.cluster, &target).await.unwrap_err();
        assert_eq!(error.reason(), "EngineUnreachable", "{error}");
        self.step("a name server was asked over TLS");
    }
}
