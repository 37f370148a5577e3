//! What the engine needs of a provider: it encodes, decodes and classifies; it does not wait, retry or batch.

use std::future::Future;

use super::{Action, CallError};

/// One thing to write: the unit that succeeds or fails.
pub trait Item: Clone + Send + Sync + 'static {
    /// The action that writes it.
    fn action(&self) -> Action;
    /// Items of the same action may share a call if their groups are equal too (a listener's rules, say).
    fn group(&self) -> String;
    /// What it is about. Two items with the same id keep their order, and are never in the same call.
    fn id(&self) -> String;
}

/// One thing to read.
pub trait Query: Clone + Ord + Send + Sync + 'static {
    /// The action that reads it.
    fn action(&self) -> Action;
    /// Queries of the same action may share a call if their groups are equal too.
    fn group(&self) -> String;
}

/// What a call that writes made.
#[derive(Clone, Debug)]
pub struct Written<M> {
    /// The task that carries it out; `None`: it is done.
    pub task: Option<String>,
    /// For each item, in the same order.
    pub items: Vec<Result<M, CallError>>,
    /// An item's error is about that item itself; else about some item of those that failed.
    pub exact: bool,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// At work.
    Running,
    /// Done.
    Done,
    /// Failed, with the cloud's reason. It had no effect.
    Failed(String),
    /// The cloud does not know it: it was no task, or it ended long ago.
    Unknown,
}

/// A cloud account's API, one call at a time.
pub trait Cloud: Send + Sync + 'static {
    /// What it writes.
    type Item: Item;
    /// What it says of a written item, such as its id.
    type Made: Clone + Send + 'static;
    /// What it reads.
    type Query: Query;
    /// What it says to a query.
    type Answer: Clone + Send + 'static;
    /// The action that asks for tasks.
    const TASKS: Action;

    /// Writes items of one action and group, of one load balancer.
    fn write(
        &self,
        lane: &str,
        items: &[Self::Item],
    ) -> impl Future<Output = Result<Written<Self::Made>, CallError>> + Send;

    /// Answers queries of one action and group, in the same order.
    fn read(
        &self,
        queries: &[Self::Query],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer, CallError>>, CallError>> + Send;

    /// Asks for tasks; answers in the same order.
    fn tasks(&self, ids: &[String]) -> impl Future<Output = Result<Vec<TaskState>, CallError>> + Send;
}
