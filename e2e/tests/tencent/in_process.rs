//! The product's provider on the emulator, without a network in between.

use directlb::provider::tencent::Transport;
use e2e::tencent::Emulator;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The emulator, without a network in between.
#[derive(Clone)]
pub(crate) struct InProcess(pub(crate) Emulator);

impl Transport for InProcess {
    async fn post(&self, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Result<(u16, Vec<u8>), String> {
        let headers: HeaderMap = headers
            .into_iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_str(&value).map_err(|e| e.to_string())?;
                Ok((HeaderName::from_static(name), value))
            })
            .collect::<Result<_, String>>()?;
        Ok(self.0.handle(&headers, &body).await)
    }
}
