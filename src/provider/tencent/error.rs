//! What Tencent's error codes mean.

use crate::sync::{Action, CallError, ErrorKind};

/// Codes and their families, the more specific one first; a family is a code up to its dot.
///
/// From the error tables of the API's documents (CLB 2018-03-17) and the common codes of Tencent Cloud API 3.0.
const KINDS: &[(&str, ErrorKind)] = &[
    ("RequestLimitExceeded", ErrorKind::Throttled),
    ("FailedOperation.ResourceInOperating", ErrorKind::Busy),
    ("FailedOperation.RequestTimeout", ErrorKind::Unavailable),
    ("FailedOperation", ErrorKind::Conflict),
    ("InternalError", ErrorKind::Unavailable),
    ("ServiceUnavailable", ErrorKind::Unavailable),
    ("ResourceUnavailable", ErrorKind::Unavailable),
    ("InvalidParameter.LBIdNotFound", ErrorKind::NotFound),
    ("InvalidParameter.ListenerIdNotFound", ErrorKind::NotFound),
    ("InvalidParameter.LocationNotFound", ErrorKind::NotFound),
    ("InvalidParameter.ClientTokenLimitExceeded", ErrorKind::Conflict),
    ("InvalidParameter.PortCheckFailed", ErrorKind::Conflict),
    ("InvalidParameter", ErrorKind::Invalid),
    ("InvalidParameterValue", ErrorKind::Invalid),
    ("MissingParameter", ErrorKind::Invalid),
    ("UnknownParameter", ErrorKind::Invalid),
    ("InvalidAction", ErrorKind::Invalid),
    ("UnsupportedRegion", ErrorKind::Invalid),
    ("UnsupportedOperation", ErrorKind::Invalid),
    ("ResourceNotFound", ErrorKind::NotFound),
    ("ResourceInUse", ErrorKind::Conflict),
    ("OperationDenied", ErrorKind::Conflict),
    ("UnauthorizedOperation", ErrorKind::Denied),
    ("AuthFailure", ErrorKind::Denied),
    ("LimitExceeded", ErrorKind::Quota),
    ("ResourceInsufficient", ErrorKind::Quota),
    ("ResourcesSoldOut", ErrorKind::Quota),
    ("InsufficientBalance", ErrorKind::Quota),
];

/// What a code means. One that nobody has heard of may have had an effect: look before trying again.
#[must_use]
pub fn kind(code: &str) -> ErrorKind {
    let family = code.split_once('.').map_or(code, |(family, _)| family);
    let of = |wanted: &str| KINDS.iter().find(|(c, _)| *c == wanted).map(|(_, kind)| *kind);
    of(code).or_else(|| of(family)).unwrap_or(ErrorKind::Unavailable)
}

/// Whether a code is about the load balancer or the account, and not about one of the items in a call.
fn whole(action: Action, code: &str, kind: ErrorKind) -> bool {
    match kind {
        // Fewer of these may fit.
        ErrorKind::Quota if code.starts_with("LimitExceeded") => {
            !matches!(action, "CreateListener" | "CreateRule" | "BatchRegisterTargets")
        }
        ErrorKind::Invalid => matches!(code, "UnsupportedRegion" | "InvalidAction"),
        ErrorKind::Conflict => code.starts_with("FailedOperation") || code.starts_with("OperationDenied"),
        ErrorKind::NotFound => code == "InvalidParameter.LBIdNotFound",
        _ => true,
    }
}

/// An error reply.
#[must_use]
pub fn reply(action: Action, code: &str, message: &str, request_id: Option<String>) -> CallError {
    let kind = kind(code);
    CallError { kind, whole: whole(action, code, kind), action, code: code.into(), message: message.into(), request_id }
}

/// What a listener's part of a batch failed for: there is no code, only a message.
#[must_use]
pub fn partial(message: &str) -> ErrorKind {
    let quota = message.contains("LimitExceeded") || message.to_ascii_lowercase().contains("quota");
    if quota { ErrorKind::Quota } else { ErrorKind::Invalid }
}

/// No reply, or one that cannot be read.
#[must_use]
pub fn no_reply(action: Action, code: &str, message: impl Into<String>) -> CallError {
    CallError {
        kind: ErrorKind::Unavailable,
        whole: true,
        action,
        code: code.into(),
        message: message.into(),
        request_id: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_by_themselves_then_by_family() {
        let table = [
            ("RequestLimitExceeded", ErrorKind::Throttled),
            ("RequestLimitExceeded.UinLimitExceeded", ErrorKind::Throttled),
            ("FailedOperation.ResourceInOperating", ErrorKind::Busy),
            ("FailedOperation.TargetNumCheckRisk", ErrorKind::Conflict),
            ("InvalidParameter.ListenerIdNotFound", ErrorKind::NotFound),
            ("InvalidParameter.FormatError", ErrorKind::Invalid),
            ("InvalidParameterValue.Length", ErrorKind::Invalid),
            ("AuthFailure.SignatureExpire", ErrorKind::Denied),
            ("LimitExceeded", ErrorKind::Quota),
            ("InternalError.Unknown", ErrorKind::Unavailable),
            ("SomethingNew", ErrorKind::Unavailable),
        ];
        for (code, expected) in table {
            assert_eq!(kind(code), expected, "{code}");
        }
    }

    #[test]
    fn a_quota_is_about_items_where_fewer_may_fit() {
        let of = |action, code| reply(action, code, "", None).whole;
        assert!(!of("CreateListener", "LimitExceeded"));
        assert!(of("CreateLoadBalancer", "LimitExceeded"));
        assert!(of("CreateListener", "InsufficientBalance"));
        assert_eq!(partial("lbl-1: LimitExceeded: TOTAL_TARGET_BIND_QUOTA is 200"), ErrorKind::Quota);
        assert_eq!(partial("lbl-1: 10.0.0.1 is not an address of the VPC"), ErrorKind::Invalid);
    }

    #[test]
    fn a_missing_load_balancer_is_nobodys_fault() {
        let of = |code| reply("X", code, "", None).whole;
        assert!(of("InvalidParameter.LBIdNotFound"));
        assert!(of("AuthFailure.SignatureFailure"));
        assert!(!of("InvalidParameter.ListenerIdNotFound"));
        assert!(!of("InvalidParameterValue"));
    }
}
