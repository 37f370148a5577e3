//! TLS configurations from the bundle, and a listener whose certificates change without a restart.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::pki::{Bundle, Pair};

/// Why a configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refuses it.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// A PEM text cannot be read.
    #[error("TLS: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The client verifier cannot be built.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

pub(super) fn roots(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(cert?)?;
    }
    Ok(roots)
}

fn identity(pair: &Pair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?))
}

/// For the webhook: the API server shows no certificate.
///
/// # Errors
/// When the bundle's certificate is unusable.
pub fn webhook_config(bundle: &Bundle) -> Result<ServerConfig, TlsError> {
    let (chain, key) = identity(&bundle.server)?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For discovery and reports: proxies and peers show a certificate of the controller's CA.
///
/// # Errors
/// When the bundle's certificates are unusable.
pub fn xds_config(bundle: &Bundle) -> Result<ServerConfig, TlsError> {
    let (chain, key) = identity(&bundle.server)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(&bundle.trust())?)).build()?;
    let mut config = ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// For talking to peers, as a proxy does.
///
/// # Errors
/// When the bundle's certificates are unusable.
pub fn peer_config(bundle: &Bundle) -> Result<ClientConfig, TlsError> {
    let (chain, key) = identity(&bundle.client)?;
    let mut config =
        ClientConfig::builder().with_root_certificates(roots(&bundle.trust())?).with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

const HANDSHAKE: Duration = Duration::from_secs(5);

/// A listener for axum whose handshakes run aside, so that a slow client holds up nobody.
pub struct TlsListener {
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl TlsListener {
    /// Accepts on `listener`, each connection with the configuration of that moment.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn new(listener: TcpListener, tls: watch::Receiver<Arc<ServerConfig>>) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let (out, connections) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = out.closed() => return,
                };
                let Ok((stream, peer)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let acceptor = TlsAcceptor::from(tls.borrow().clone());
                let out = out.clone();
                tokio::spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            // Closed only at shutdown.
                            let _ = out.send((stream, peer)).await;
                        }
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake"),
                        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                    }
                });
            }
        });
        Ok(Self { connections, local })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The accepting task lives as long as this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}
