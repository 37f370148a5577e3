//! Errors of a reconcile, and what they mean for retry, condition and metric.

use std::time::Duration;

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the Kubernetes API failed.
    #[error("{what}: {source}")]
    Kube {
        /// What was attempted.
        what: &'static str,
        /// The API's answer, or the transport's failure.
        #[source]
        source: Box<kube::Error>,
    },
    /// The reconcile took longer than its limit.
    #[error("the reconcile took longer than {0:?}")]
    TimedOut(Duration),
    /// An object has no name or namespace, which the API server never lets happen.
    #[error("object has no {0}")]
    Missing(&'static str),
}

/// The kinds of [`Error`]: a closed list, used as a metric's label and to choose the retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Somebody else changed the object at the same time.
    Conflict,
    /// The object is gone.
    NotFound,
    /// The API server says that the controller may not.
    Forbidden,
    /// The API server is busy.
    Throttled,
    /// The API server refused the request as invalid.
    Invalid,
    /// Anything else from the API server or the network.
    Unavailable,
    /// The time limit.
    TimedOut,
    /// A malformed object.
    Malformed,
}

impl ErrorKind {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed_out",
            Self::Malformed => "malformed",
        }
    }
}

impl Error {
    /// Wraps a Kubernetes error.
    pub(crate) fn kube(what: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kube { what, source: Box::new(source) }
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TimedOut(_) => ErrorKind::TimedOut,
            Self::Missing(_) => ErrorKind::Malformed,
            Self::Kube { source, .. } => match &**source {
                kube::Error::Api(status) => match status.code {
                    404 => ErrorKind::NotFound,
                    409 => ErrorKind::Conflict,
                    401 | 403 => ErrorKind::Forbidden,
                    429 => ErrorKind::Throttled,
                    400 | 422 => ErrorKind::Invalid,
                    _ => ErrorKind::Unavailable,
                },
                _ => ErrorKind::Unavailable,
            },
        }
    }

    /// How long to wait after the `n`th failure in a row (from 1). A conflict is tried again almost at once, as the next
    /// watch event brings the newer object; the rest backs off to five minutes.
    #[must_use]
    pub fn backoff(&self, n: u32) -> Duration {
        let base = match self.kind() {
            ErrorKind::Conflict | ErrorKind::NotFound => Duration::from_millis(100),
            ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Throttled => Duration::from_millis(500),
            ErrorKind::Forbidden | ErrorKind::Invalid | ErrorKind::Malformed => Duration::from_secs(5),
        };
        base.saturating_mul(1 << n.saturating_sub(1).min(10)).min(Duration::from_secs(300))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn api(code: u16) -> Error {
        let status = kube::core::Status { code, ..kube::core::Status::failure("x", "y") };
        Error::kube("patch")(kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn kinds_by_code() {
        let table = [
            (404, ErrorKind::NotFound),
            (409, ErrorKind::Conflict),
            (403, ErrorKind::Forbidden),
            (429, ErrorKind::Throttled),
            (422, ErrorKind::Invalid),
            (500, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
        ];
        for (code, kind) in table {
            assert_eq!(api(code).kind(), kind, "{code}");
        }
    }

    #[test]
    fn backoff_grows_and_is_bounded() {
        let e = api(500);
        assert_eq!(e.backoff(1), Duration::from_millis(500));
        assert_eq!(e.backoff(2), Duration::from_secs(1));
        assert_eq!(e.backoff(50), Duration::from_secs(300));
        assert!(api(409).backoff(1) < e.backoff(1));
    }
}
