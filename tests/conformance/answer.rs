//! What a request was answered with.

use std::panic::Location;

use serde_json::Value;

use super::case_context::CaseContext;

/// An answer, and the request that it belongs to for the words of a failed expectation. A case goes on after one.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(super) lab: CaseContext,
    pub(super) request: String,
    pub(super) code: u16,
    /// A text that is no JSON is a JSON string.
    pub(super) body: Value,
}

impl Answer {
    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        if !holds {
            let place = Location::caller();
            let failure = format!(
                "{}:{}: {}: expected {what}, got {} {}",
                place.file(),
                place.line(),
                self.request,
                self.code,
                self.body
            );
            self.lab.fail(failure);
        }
    }

    #[track_caller]
    pub(super) fn has_code(&self, code: u16) -> &Self {
        self.check(self.code == code, &code.to_string());
        self
    }

    /// A refusal with this code, reason and part of its message.
    #[track_caller]
    pub(super) fn refused(&self, code: u16, reason: &str, words: &str) -> &Self {
        let fits = self.code == code
            && self.body["reason"].as_str().unwrap_or_default() == reason
            && self.message().contains(words);
        self.check(fits, &format!("{code} {reason} {words:?}"));
        self
    }

    /// 422 with this part in its message.
    #[track_caller]
    pub(super) fn invalid(&self, words: &str) -> &Self {
        self.refused(422, "Invalid", words)
    }

    #[track_caller]
    pub(super) fn has(&self, pointer: &str, value: impl Into<Value>) -> &Self {
        let value = value.into();
        self.check(self.at(pointer) == value, &format!("{value} at {pointer}"));
        self
    }

    #[track_caller]
    pub(super) fn lacks(&self, pointer: &str) -> &Self {
        self.check(
            self.body.pointer(pointer).is_none(),
            &format!("nothing at {pointer}"),
        );
        self
    }

    pub(super) fn at(&self, pointer: &str) -> Value {
        self.body.pointer(pointer).cloned().unwrap_or_default()
    }

    pub(super) fn text(&self, pointer: &str) -> String {
        self.at(pointer).as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn version(&self) -> String {
        self.text("/metadata/resourceVersion")
    }

    pub(super) fn uid(&self) -> String {
        self.text("/metadata/uid")
    }

    pub(super) fn message(&self) -> &str {
        self.body["message"]
            .as_str()
            .or(self.body.as_str())
            .unwrap_or_default()
    }

    /// Names of the items of a list.
    pub(super) fn names(&self) -> Vec<String> {
        let items = self.body["items"].as_array().into_iter().flatten();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}
