//! What can go wrong with a call, and what that means.

/// What a failed call means for the items in it: a closed list, used for retry, condition reason and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    /// Too many calls. Nothing was done; the same call may be made again later.
    Throttled,
    /// The load balancer is at work on another write. Nothing was done; the same call may be made again later.
    Busy,
    /// No answer, or one that says nothing of what was done: look before trying again.
    Unavailable,
    /// What the call was about is not there.
    NotFound,
    /// The credentials are wrong, or may not do this.
    Denied,
    /// A quota is used up.
    Quota,
    /// Somebody else holds what was asked for, such as a port.
    Conflict,
    /// The call is wrong as it is; again would be wrong again.
    Invalid,
}

impl ErrorKind {
    /// As a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::Quota => "quota",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
        }
    }

    /// Nothing was done, and the same call may succeed later.
    #[must_use]
    pub const fn again(self) -> bool {
        matches!(self, Self::Throttled | Self::Busy)
    }

    /// The call was refused for something in it, maybe a single item.
    #[must_use]
    pub const fn about_items(self) -> bool {
        matches!(self, Self::NotFound | Self::Quota | Self::Conflict | Self::Invalid)
    }
}

/// A call that failed, or an item of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {message} ({code})")]
pub struct CallError {
    /// What it means.
    pub kind: ErrorKind,
    /// It is about the load balancer or the account as a whole, not about one of the items.
    pub whole: bool,
    /// The action.
    pub action: super::Action,
    /// The cloud's code, or one of ours where there was no answer.
    pub code: String,
    /// The cloud's sentence.
    pub message: String,
    /// The cloud's id of the request, for its support; for logs and events, not for conditions.
    pub request_id: Option<String>,
}

impl CallError {
    /// No answer within the time limit.
    #[must_use]
    pub fn timeout(action: super::Action, after: std::time::Duration) -> Self {
        Self {
            kind: ErrorKind::Unavailable,
            whole: true,
            action,
            code: "Timeout".into(),
            message: format!("no answer within {after:?}"),
            request_id: None,
        }
    }

    /// An answer that leaves something out.
    #[must_use]
    pub fn short(action: super::Action) -> Self {
        Self {
            kind: ErrorKind::Unavailable,
            whole: true,
            action,
            code: "ShortReply".into(),
            message: "the reply leaves out part of what was asked".into(),
            request_id: None,
        }
    }
}
