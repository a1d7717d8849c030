//! What only strict field validation finds in a body: a field that stands there twice.

use std::{collections::BTreeSet, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::api::kinds::Kind;
use crate::api::schema::child;
use crate::api::status::ApiError;

/// Refuses a body in which a field stands twice.
pub(crate) fn no_duplicates(kind: &Kind, body: &[u8]) -> Result<(), ApiError> {
    let found = fields_given_twice(body);
    if found.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = found
        .iter()
        .map(|path| format!("duplicate field \"{path}\""))
        .collect();
    Err(ApiError::bad_request(&format!(
        "{k} in version \"{}\" cannot be handled as a {k}: strict decoding error: {}",
        kind.version,
        list.join(", "),
        k = kind.kind,
    )))
}

/// The paths of fields that stand twice in a text that is JSON.
pub fn fields_given_twice(body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let walk = Walk {
        path: String::new(),
        found: &mut found,
    };
    // What is no JSON is refused elsewhere.
    let _ = walk.deserialize(&mut serde_json::Deserializer::from_slice(body));
    found
}

/// Goes through a value, and keeps the paths of fields that it has seen before.
struct Walk<'a> {
    path: String,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let path = child(&self.path, &name);
            if !seen.insert(name) {
                self.found.push(path.clone());
            }
            let found = &mut *self.found;
            map.next_value_seed(Walk { path, found })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let path = format!("{}[{index}]", self.path);
            let found = &mut *self.found;
            if items.next_element_seed(Walk { path, found })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        Deserialize::deserialize(deserializer).map(|_: serde::de::IgnoredAny| ())
    }
}
