//! From "something changed" to "these objects are to be reconciled".

use std::{collections::BTreeMap, sync::Arc};

use kube::{core::DynamicObject, runtime::reflector::ObjectRef};
use tokio::sync::{Notify, mpsc};

use crate::model::ObjectKey;

/// Something changed.
#[derive(Clone, Debug)]
pub enum Change {
    /// One of the users' objects, or a proxy's report about it.
    Object(ObjectKey),
    /// A Pod: its namespace, its name, its labels.
    Pod(String, String, BTreeMap<String, String>),
    /// Something in a namespace.
    Namespace(String),
    /// Something that may concern every object (a class, a proxy, who leads).
    Everything,
    /// An object is gone.
    Deleted(ObjectRef<DynamicObject>),
    /// Nobody is concerned.
    Nothing,
}

/// Where changes are sent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Triggers {
    changes: mpsc::UnboundedSender<Change>,
    sweep: Arc<Notify>,
}

impl Triggers {
    /// A sender, and the receiver that the controller reads.
    ///
    /// Unbounded, as a watch must never wait for the controller; what is sent is small, and the controller drops
    /// duplicates when it reads.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Change>) {
        let (changes, rx) = mpsc::unbounded_channel();
        (Self { changes, sweep: Arc::new(Notify::new()) }, rx)
    }

    /// Tells of a change.
    pub fn send(&self, change: Change) {
        if matches!(change, Change::Nothing) {
            return;
        }
        if matches!(change, Change::Deleted(_) | Change::Everything | Change::Object(_)) {
            self.sweep.notify_one();
        }
        // The receiver is gone only when the controller is.
        let _ = self.changes.send(change);
    }

    /// Tells of a change that cannot leave a gate without its object.
    pub fn send_quietly(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    /// Asks for a sweep.
    pub fn sweep(&self) {
        self.sweep.notify_one();
    }

    /// Waits for a change that may leave a gate without its object.
    pub async fn sweep_needed(&self) {
        self.sweep.notified().await;
    }
}
