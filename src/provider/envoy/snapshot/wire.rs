//! Small shapes that occur everywhere in Envoy's API.

use std::time::Duration;

use envoy_types::pb::{
    envoy::config::core::v3::{
        Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress,
        address::Address as AddressKind,
        config_source::ConfigSourceSpecifier,
        socket_address::{PortSpecifier, Protocol as SocketProtocol},
    },
    google::protobuf::{Any, BoolValue, Duration as ProtoDuration, UInt32Value},
};
use prost::{Message, Name};

pub(super) fn pack<T: Message + Name>(message: &T) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", T::full_name()), value: message.encode_to_vec() }
}

pub(super) fn duration(d: Duration) -> Option<ProtoDuration> {
    Some(ProtoDuration {
        seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(d.subsec_nanos()).unwrap_or(0),
    })
}

pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(super) fn address(ip: &str, port: u16, udp: bool) -> Option<Address> {
    let protocol = if udp { SocketProtocol::Udp } else { SocketProtocol::Tcp };
    Some(Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            protocol: protocol.into(),
            address: ip.into(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    })
}

/// "From the same ADS stream."
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}
