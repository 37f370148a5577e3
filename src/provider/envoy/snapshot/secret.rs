//! Certificates -> SDS secrets.

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret::Type},
};

use crate::model::{Certificate, ListenerConfig, ObjectKey, Tls};

/// The certificates that a listener uses.
pub(super) fn certificates(listener: &ListenerConfig) -> &[Certificate] {
    match &listener.tls {
        Some(Tls::Terminate(certificates)) => certificates,
        Some(Tls::Passthrough | Tls::Stored(_)) | None => &[],
    }
}

/// The name under which it is served.
pub(super) fn name(object: &ObjectKey, certificate: &Certificate) -> String {
    format!("{object}/{}", certificate.secret)
}

pub(super) fn secret(name: &str, certificate: &Certificate) -> Secret {
    let inline =
        |text: &str| Some(DataSource { specifier: Some(Specifier::InlineString(text.into())), ..Default::default() });
    Secret {
        name: name.into(),
        r#type: Some(Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(&certificate.chain_pem),
            private_key: inline(&certificate.key_pem),
            ..TlsCertificate::default()
        })),
    }
}
