//! HTTPS to a cloud's API.

use http::{Request, Uri, header::HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore};

use super::tls;
use crate::provider::tencent::{AnyTransport, Endpoint, Transport};

/// The longest reply that is read, in bytes: 20,000 targets take a tenth of it.
const LONGEST: usize = 64 << 20;

/// A client of one endpoint. Connections are kept and reused.
pub struct Https {
    client: Client<HttpsConnector<HttpConnector>, Full<axum::body::Bytes>>,
    uri: Uri,
}

/// Connects to an endpoint.
///
/// # Errors
/// The URL or the certificates cannot be used, in words.
pub fn connect(endpoint: &Endpoint) -> Result<AnyTransport, String> {
    let uri: Uri = format!("{}/", endpoint.url).parse().map_err(|e| format!("endpoint {}: {e}", endpoint.url))?;
    let roots = match &endpoint.ca_bundle {
        Some(pem) => tls::roots(pem).map_err(|e| format!("caBundle: {e}"))?,
        None => system_roots(),
    };
    if roots.is_empty() && uri.scheme_str() == Some("https") {
        let source = if endpoint.ca_bundle.is_some() { "caBundle" } else { "the system" };
        return Err(format!("{source} has no certificate to trust"));
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS: {e}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(config);
    // The class decides whether a URL without TLS may be used; see `TencentClass::insecure_http`.
    let connector = if uri.scheme_str() == Some("http") { connector.https_or_http() } else { connector.https_only() };
    let client = Client::builder(TokioExecutor::new()).build(connector.enable_http1().build());
    Ok(AnyTransport::new(Https { client, uri }))
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a certificate of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

impl Transport for Https {
    async fn post(&self, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Result<(u16, Vec<u8>), String> {
        let mut request = Request::post(self.uri.clone());
        for (name, value) in headers {
            request = if name == "host" { request.header(HOST, value) } else { request.header(name, value) };
        }
        let request = request.body(Full::from(body)).map_err(|e| e.to_string())?;
        let response = self.client.request(request).await.map_err(|e| chain(&e))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LONGEST).collect().await.map_err(|e| e.to_string())?;
        Ok((status, body.to_bytes().to_vec()))
    }
}

/// An error and its causes: the outermost alone says nothing of a certificate that is not trusted.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
