//! Failures that decide how a command ends.

use thiserror::Error;

/// A server that is not there: exit code 3 for commands, a retry for services.
#[derive(Debug, Error)]
#[error("{service} at {address} cannot be reached")]
pub struct Unreachable {
    /// Which server.
    pub service: &'static str,
    /// Where it was looked for; without secrets.
    pub address: String,
    /// What the client said.
    #[source]
    pub cause: anyhow::Error,
}

/// A server that is there and cannot answer yet: exit code 3 for commands.
#[derive(Debug, Error)]
#[error("{service} cannot answer: {reason}")]
pub struct NotReady {
    /// Which server.
    pub service: &'static str,
    /// What it says.
    pub reason: String,
}

/// Settings, definitions or a state of the servers that a person must mend: exit code 2.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Refused(pub String);
