//! What is answered: a line, or everything.

use std::{fmt::Write as _, time::Duration};

use super::{Kind, Status};
use crate::access_log::escape_json;

/// The state of the service, and of each check that was asked.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) kind: Kind,
    pub(super) status: Status,
    pub(super) checks: Vec<CheckReport>,
}

/// How a check came out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// Its name.
    pub name: std::sync::Arc<str>,
    /// How it came out.
    pub status: Status,
    /// The service works without it.
    pub optional: bool,
    /// How long ago.
    pub age: Duration,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// All in all: down if a check is, else degraded if one is. Its reason is the first such check's name.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Each check, in the order in which they were given.
    #[must_use]
    pub fn checks(&self) -> &[CheckReport] {
        &self.checks
    }

    pub(super) fn of(kind: Kind, checks: Vec<CheckReport>) -> Self {
        let first = |wanted: fn(&Status) -> bool| checks.iter().find(|check| wanted(&check.status));
        let status = if let Some(check) = first(Status::is_down) {
            Status::down(check.name.to_string())
        } else if let Some(check) = first(|status| *status != Status::Up) {
            Status::degraded(check.name.to_string())
        } else {
            Status::Up
        };
        Self {
            kind,
            status,
            checks,
        }
    }

    /// One line: `ok`, `degraded: cache`, `not ready: db`.
    pub(super) fn text(&self) -> String {
        match &self.status {
            Status::Up => "ok\n".to_owned(),
            Status::Degraded(name) => format!("degraded: {name}\n"),
            Status::Down(name) => format!("{}: {name}\n", self.kind.refusal()),
        }
    }

    /// Everything; what the checks say only if `details` are wanted.
    pub(super) fn json(&self, details: bool) -> String {
        let mut out = String::new();
        let _ = write!(out, r#"{{"status":"{}""#, self.status.as_str());
        if let Some(why) = self.status.why() {
            out.push_str(r#","because":"#);
            escape_json(&mut out, why.as_bytes());
        }
        out.push_str(r#","checks":["#);
        for (at, check) in self.checks.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            out.push_str(r#"{"name":"#);
            escape_json(&mut out, check.name.as_bytes());
            let _ = write!(
                out,
                r#","status":"{}","optional":{},"age_ms":{},"took_ms":{}"#,
                check.status.as_str(),
                check.optional,
                check.age.as_millis(),
                check.took.as_millis()
            );
            if let Some(why) = check.status.why()
                && details
            {
                out.push_str(r#","error":"#);
                escape_json(&mut out, why.as_bytes());
            }
            out.push('}');
        }
        out.push_str("]}\n");
        out
    }
}
