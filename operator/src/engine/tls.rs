//! TLS over TCP, as the engine's processes speak it on the same ports as plain connections (TlsMode of rocketmq-remoting).

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::connection::{Connect, Stream, tcp};

/// TLS over TCP. Who is trusted, and the certificate of one's own where peers ask for it, is rustls's to know. A peer shows a certificate for the
/// name, or the address, that it is called by.
pub struct Tls(TlsConnector);

impl Tls {
    /// Connects as `config` says.
    #[must_use]
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Tls(config.into())
    }
}

impl Connect for Tls {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
            let name = ServerName::try_from(host.to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}")))?;
            let stream: Box<dyn Stream> = Box::new(self.0.connect(name, tcp(address).await?).await?);
            Ok(stream)
        })
    }
}

#[cfg(test)]
mod tests {
    use gantry_remoting::command::{PREFIX, length_after};
    use gantry_remoting::{Code, Command};
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{RootCertStore, ServerConfig};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::engine::{ClusterId, ConfigTarget, Engine, EngineError, Limits, RemotingEngine};

    fn certificate(name: &str) -> CertifiedKey<rcgen::KeyPair> {
        generate_simple_self_signed([name.to_owned()]).unwrap()
    }

    /// Serves the configuration `{shown: yes}` over TLS until the test ends; returns its port.
    async fn serve(shows: &CertifiedKey<rcgen::KeyPair>) -> u16 {
        let key = PrivateKeyDer::Pkcs8(shows.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![shows.cert.der().clone()], key)
            .unwrap();
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who does not trust us hangs up here.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut prefix = [0; PREFIX];
                stream.read_exact(&mut prefix).await.unwrap();
                let mut rest = vec![0; length_after(prefix).unwrap()];
                stream.read_exact(&mut rest).await.unwrap();
                let request = Command::decode_after_prefix(&rest).unwrap();
                let reply =
                    Command { code: 0, flag: 1, opaque: request.opaque, ..Command::request(Code::GetNamesrvConfig) };
                stream.write_all(&reply.body("shown=yes\n").encode().unwrap()).await.unwrap();
            }
        });
        port
    }

    async fn ask(trusts: &CertifiedKey<rcgen::KeyPair>, port: u16) -> Result<Option<String>, EngineError> {
        let mut roots = RootCertStore::empty();
        roots.add(trusts.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let engine = RemotingEngine::with_connect(Limits::default(), Arc::new(Tls::new(Arc::new(config))));
        let target = ConfigTarget::NameServer(format!("127.0.0.1:{port}"));
        Ok(engine.config(&ClusterId::new("ns", "shop"), &target).await?.get("shown").cloned())
    }

    #[tokio::test]
    async fn a_peer_that_is_trusted_is_spoken_to() {
        let own = certificate("127.0.0.1");
        let port = serve(&own).await;
        assert_eq!(ask(&own, port).await.unwrap().as_deref(), Some("yes"));
    }

    #[tokio::test]
    async fn a_peer_that_nobody_vouches_for_or_that_has_another_name_is_unreachable_and_that_is_said() {
        let (own, stranger, other) = (certificate("127.0.0.1"), certificate("127.0.0.1"), certificate("10.0.0.1"));
        for (shown, trusted, says) in [(&stranger, &own, "certificate"), (&other, &other, "not valid for name")] {
            let port = serve(shown).await;
            let error = ask(trusted, port).await.unwrap_err();
            assert_eq!(error.reason(), "EngineUnreachable");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
