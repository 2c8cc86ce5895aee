//! Why a pass over an object failed. One vocabulary: `reason()` is the Event's reason, the condition's and the metric's label.

use gantry_crds::Reason;

use crate::broker_cluster::parse::InvalidSpec;
use crate::engine::EngineError;

/// Why a pass over an object failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec can't be.
    #[error(transparent)]
    InvalidSpec(#[from] InvalidSpec),
    /// The API server did not do or say what was wanted.
    #[error("the API server refused to {what}")]
    Kubernetes {
        /// What was wanted, e.g. `write StatefulSet/shop-broker-0`.
        what: String,
        /// What it said.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object of a child's name belongs to somebody else.
    #[error("{0} belongs to somebody else: delete or rename it, or rename the cluster")]
    NameTaken(String),
    /// The engine did not do what was wanted.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An object can't be written as JSON: a defect.
    #[error("an object can't be written as JSON")]
    Json(#[from] serde_json::Error),
    /// It took too long.
    #[error("it took longer than {0} s")]
    TimedOut(u64),
    /// This process no longer leads.
    #[error("this process does not hold the leader lease any more")]
    NotLeader,
}

impl Error {
    /// Wraps what the API server said with what was wanted of it.
    pub fn kubernetes(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Kubernetes { what, source: Box::new(source) }
    }

    /// The reason in the common vocabulary.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidSpec(_) => Reason::InvalidSpec,
            Self::Kubernetes { .. } | Self::Json(_) => Reason::ApplyFailed,
            Self::NameTaken(_) => Reason::NameTaken,
            Self::Engine(e) => Reason::from_name(e.reason()),
            Self::TimedOut(_) => Reason::ReconcileTimedOut,
            Self::NotLeader => Reason::NotLeader,
        }
    }

    /// Whether the API server said no to this very write, as an admission policy or the schema does: it would say so again, and of no other object.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let Self::Kubernetes { source, .. } = self else { return false };
        // 401, 408 and 429 are about who asks, and when.
        matches!(&**source, kube::Error::Api(s) if (400..500).contains(&s.code) && ![401, 408, 429].contains(&s.code))
    }

    /// The whole chain as one sentence, for statuses and Events.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(s) = source {
            text = format!("{text}: {s}");
            source = s.source();
        }
        text
    }
}
