//! What a request was answered with.

use serde_json::Value;

/// An answer, and the request that it belongs to for the words of a failed expectation.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(super) request: String,
    pub(super) code: u16,
    /// A text that is no JSON is a JSON string.
    pub(super) body: Value,
}

impl Answer {
    #[track_caller]
    pub(super) fn is(&self, code: u16) -> &Self {
        assert_eq!(self.code, code, "{}: {}", self.request, self.body);
        self
    }

    /// A refusal with this code, reason and part of its message.
    #[track_caller]
    pub(super) fn refused(&self, code: u16, reason: &str, words: &str) -> &Self {
        self.is(code);
        let found = self.body["reason"].as_str().unwrap_or_default();
        assert_eq!(found, reason, "{}: {}", self.request, self.body);
        let message = self.message();
        assert!(
            message.contains(words),
            "{}: {words:?} is not in {message:?}",
            self.request
        );
        self
    }

    /// 422 with this part in its message.
    #[track_caller]
    pub(super) fn invalid(&self, words: &str) -> &Self {
        self.refused(422, "Invalid", words)
    }

    #[track_caller]
    pub(super) fn has(&self, pointer: &str, value: impl Into<Value>) -> &Self {
        let found = self.body.pointer(pointer).unwrap_or(&Value::Null);
        assert_eq!(
            *found,
            value.into(),
            "{} at {pointer}: {}",
            self.request,
            self.body
        );
        self
    }

    #[track_caller]
    pub(super) fn lacks(&self, pointer: &str) -> &Self {
        let found = self.body.pointer(pointer);
        assert_eq!(found, None, "{} at {pointer}: {}", self.request, self.body);
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
