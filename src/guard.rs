//! How objects are decoded: one that can't be read stops no other.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object of a watch, or why it can't be read: one that can't must not stop the others.
///
/// As `kube::core::DeserializeGuard`, but the object is decoded from its text, and only a second time when it can't be
/// read: that one builds two trees of the text before it decodes, which was two fifths of the CPU time under load.
///
/// # Caveats
/// Can be decoded by serde_json alone, from a text, as the kube client does.
#[derive(Clone, Debug)]
pub(crate) struct Guard<K> {
    pub(crate) object: Result<K, Unreadable>,
    /// Length of its text, in bytes.
    pub(crate) size: usize,
}

/// What is known of an object that can't be read.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    /// What is wrong with it.
    pub(crate) error: String,
    pub(crate) metadata: ObjectMeta,
}

/// How an object is made of its text.
pub(crate) trait Decode: DeserializeOwned {
    /// The whole object, or what is kept of one that is too large.
    fn decode(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }
}

impl<'de, K: Decode> Deserialize<'de> for Guard<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let size = text.get().len();
        let error = match K::decode(text.get()) {
            Ok(object) => {
                let object = Ok(object);
                return Ok(Self { object, size });
            }
            Err(error) => error.to_string(),
        };
        // Without metadata there is nobody to tell: this is no object.
        let partial: PartialObjectMeta = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let object = Err(Unreadable {
            error,
            metadata: partial.metadata,
        });
        Ok(Self { object, size })
    }
}

impl<K: Resource> Resource for Guard<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.object
            .as_ref()
            .map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.object
            .as_mut()
            .map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::WatchEvent;

    use super::*;

    impl Decode for ConfigMap {}

    fn added(object: &str) -> Guard<ConfigMap> {
        let line = format!(r#"{{"type":"ADDED","object":{object}}}"#);
        let WatchEvent::Added(object) = serde_json::from_str(&line).expect("an event") else {
            panic!("another event: {line}");
        };
        object
    }

    #[test]
    fn an_object_that_can_be_read_is_read() {
        let object = added(r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#);
        assert_eq!(object.meta().name.as_deref(), Some("a"));
        let data = object.object.expect("readable").data.expect("data");
        assert_eq!(data["k"], "v");
    }

    #[test]
    fn of_an_object_that_can_not_be_read_the_metadata_and_the_reason_are_known() {
        let object = added(r#"{"metadata":{"name":"a","uid":"u"},"data":[1]}"#);
        assert_eq!(object.meta().uid.as_deref(), Some("u"));
        let error = object.object.expect_err("unreadable").error;
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn a_list_keeps_what_can_be_read_beside_what_can_not() {
        let list = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"7"},
            "items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"},"data":3}]}"#;
        let list: kube::core::ObjectList<Guard<ConfigMap>> = serde_json::from_str(list).expect("a list");
        let readable: Vec<bool> = list.items.iter().map(|object| object.object.is_ok()).collect();
        assert_eq!(readable, [true, false]);
    }
}
