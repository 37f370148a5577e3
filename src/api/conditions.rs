//! The closed lists of condition types and reasons.

/// Types of the conditions in a `DirectLoadBalancer`'s status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The whole spec is valid and everything that it names exists.
    Accepted,
    /// Every proxy (or the cloud) carries the spec's listeners.
    Programmed,
    /// Every proxy of the fleet reports.
    ProxiesReady,
    /// Every target is registered and passes its health checks.
    TargetsReady,
    /// The cloud's quotas leave room; only in a cloud. `Ready` does not depend on it.
    WithinQuota,
    /// All of the above: traffic to the address reaches healthy Pods.
    Ready,
    /// kstatus: work is under way.
    Reconciling,
    /// kstatus: no progress without a change by a person.
    Stalled,
}

impl ConditionType {
    /// All types, in the order in which status lists them.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Programmed,
        Self::ProxiesReady,
        Self::TargetsReady,
        Self::WithinQuota,
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
    ];

    /// The condition's `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Programmed => "Programmed",
            Self::ProxiesReady => "ProxiesReady",
            Self::TargetsReady => "TargetsReady",
            Self::WithinQuota => "WithinQuota",
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }
        impl $name {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The reason as it stands in a condition.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }
        }
    };
}

reasons! {
    /// Reasons of a `DirectLoadBalancer`'s conditions, holds and events.
    Reason {
        /// Valid, and everything named exists.
        Accepted,
        /// A field has a value that is not allowed.
        Invalid,
        /// `className` names no class.
        ClassNotFound,
        /// No `className`, and no class is the default.
        NoDefaultClass,
        /// The class does not admit this namespace.
        NamespaceNotAllowed,
        /// A workload, Service or Secret that the spec names does not exist.
        ReferenceNotFound,
        /// No target Pod has the named port.
        PortNotFound,
        /// A certificate cannot be used (expired, or its key does not match).
        InvalidCertificate,
        /// Another object holds the port on the shared addresses.
        PortConflict,
        /// The class' pool has no free address.
        PoolExhausted,
        /// The address asked for belongs to another object.
        AddressInUse,
        /// The address asked for is not in the class' pool.
        AddressNotInPool,
        /// The class does not allow that this load balancer is adopted.
        AdoptionNotAllowed,
        /// The proxies, or the cloud's load balancer, carry the listeners.
        Programmed,
        /// Proxies have not yet confirmed.
        Pending,
        /// A proxy refused what it was sent.
        ProxyRejected,
        /// Every proxy reports.
        AllReporting,
        /// A proxy has not reported yet and is waited for.
        WaitingForProxies,
        /// A proxy stayed away and is left out.
        ProxyLeftOut,
        /// The fleet has no proxy.
        NoProxies,
        /// The Secret with the cloud's credentials is missing or incomplete.
        CredentialsMissing,
        /// The cloud refuses the credentials, or they may not do what is needed.
        CredentialsRefused,
        /// The cloud does not answer, or answers with an error of its own.
        CloudUnavailable,
        /// The cloud lets through fewer calls than are needed.
        CloudThrottled,
        /// The cloud refuses a value.
        CloudRejected,
        /// Somebody else holds what is needed, such as a port of an adopted load balancer.
        CloudConflict,
        /// A quota of the cloud is used up: what fits is there, the rest waits.
        QuotaExceeded,
        /// Four fifths or more of a quota of the cloud are used.
        QuotaNearlyUsed,
        /// Every quota of the cloud leaves room.
        WithinQuota,
        /// The load balancer to adopt, or what was made, is not there.
        LoadBalancerNotFound,
        /// Somebody else changed or removed what is the object's: it was put right.
        DriftRepaired,
        /// Every target is healthy.
        AllHealthy,
        /// Some targets are registered and not healthy yet.
        Registering,
        /// Some targets fail a health check.
        HealthCheckFailing,
        /// There is no target.
        NoTargets,
        /// Pods made before the object carry no gate.
        UngatedPods,
        /// A step is held back: it would take away the last serving target.
        LastServingTarget,
        /// A step is held back: all Pods vanished or went unready at once.
        MassRemoval,
        /// A step is held back: what a listener should send to instead does not serve yet.
        ReplacementNotServing,
        /// Only shown, not done (`mode: Plan`).
        PlanOnly,
        /// Ready.
        Ready,
        /// Not ready; the message names the condition.
        NotReady,
        /// Work is under way.
        Progressing,
        /// Nothing left to do.
        UpToDate,
        /// A call to the Kubernetes API failed.
        KubernetesError,
        /// The object is being deleted.
        Deleting,
        /// A container's own preStop hook is shorter than the drain.
        PreStopTooShort,
    }
}

impl Reason {
    /// Whether it is about a cloud, its API or its credentials.
    #[must_use]
    pub const fn is_cloud(self) -> bool {
        matches!(
            self,
            Self::CredentialsMissing
                | Self::CredentialsRefused
                | Self::CloudUnavailable
                | Self::CloudThrottled
                | Self::CloudRejected
                | Self::CloudConflict
                | Self::QuotaExceeded
                | Self::LoadBalancerNotFound
        )
    }

    /// Whether nothing gets better without a person.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::CredentialsMissing
                | Self::CredentialsRefused
                | Self::CloudRejected
                | Self::CloudConflict
                | Self::QuotaExceeded
                | Self::LoadBalancerNotFound
        )
    }
}

reasons! {
    /// Reasons of the readiness-gate condition on a Pod.
    GateReason {
        /// Registered everywhere, and healthy everywhere: the gate is open.
        Healthy,
        /// Not yet registered on every listener and rule, or not yet confirmed by every proxy.
        Registering,
        /// Registered; a health check has not passed yet, or fails.
        HealthCheckFailing,
        /// The Pod's containers are not ready, so it is not registered.
        ContainersNotReady,
        /// No proxy or load balancer to register with.
        NoProxies,
        /// A quota of the cloud is used up: the Pod cannot be registered.
        QuotaExceeded,
        /// The cloud refuses the Pod's address, or another part of its registration.
        CloudRejected,
        /// No listener targets this Pod: the gate is open.
        NotTargeted,
        /// `readinessGate: Disabled`: the gate is open.
        GateDisabled,
        /// The object is gone or going: the gate is open.
        LoadBalancerDeleted,
        /// The object's spec is not accepted, and never was: the gate is open.
        NotAccepted,
        /// The Pod is leaving: it drains.
        Draining,
    }
}
