//! Names that flags take.

/// Longest targetCluster.
const CLUSTER_NAME_MAX: usize = 253;
/// Longest name of a namespace.
const NAMESPACE_MAX: usize = 63;

/// A name that no namespace can have would protect nothing, and say so never.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let name = text.trim();
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let bytes = name.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    if bytes.iter().copied().all(inner)
        && ends(bytes.first())
        && ends(bytes.last())
        && name.len() <= NAMESPACE_MAX
    {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "not a name of a namespace: lower case letters, digits and '-', at most {NAMESPACE_MAX}, no '-' at its ends"
        ))
    }
}

/// A name that a step's targetCluster can be.
pub(super) fn cluster_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.len() > CLUSTER_NAME_MAX || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "not a name of a cluster: no spaces, at most {CLUSTER_NAME_MAX} characters"
        ));
    }
    Ok(name.to_owned())
}

/// Empty is as good as unset: charts and kustomizations have no other way to say so.
pub(super) fn namespace_or_none(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok(String::new());
    }
    namespace(text)
}
