//! A duration as users write it: `500ms`, `30s`, `1m30s`.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration in whole milliseconds, seconds, minutes and hours, such as `500ms`, `30s` or `1m30s`.
///
/// The text is kept as written, so that a GitOps tool sees no difference between `60s` and `1m`. Text that is
/// no duration is kept too: the object still deserialises, and validation names the field and the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HumanDuration(pub String);

/// What a duration must look like; the same in the schema and in Rust.
pub(crate) const PATTERN: &str = "^([0-9]{1,7}(ms|s|m|h))+$";

impl HumanDuration {
    /// The duration, or `None` where the text is not one (the pattern that the schema gives).
    #[must_use]
    pub fn get(&self) -> Option<Duration> {
        let ok = self.0.chars().all(|c| c.is_ascii_digit() || matches!(c, 'm' | 's' | 'h'));
        if !ok {
            return None;
        }
        humantime::parse_duration(&self.0).ok()
    }
}

impl From<Duration> for HumanDuration {
    fn from(d: Duration) -> Self {
        Self(humantime::format_duration(d).to_string().replace(' ', ""))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "HumanDuration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": 32})
    }
}
