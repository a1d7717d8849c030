//! What an image can be called.

/// Longest name of an image, tag and digest apart.
const NAME_MAX: usize = 255;
/// Longest tag.
const TAG_MAX: usize = 128;

/// Checks the reference of an image, `[REGISTRY/]NAME[:TAG][@DIGEST]`: with a typo no pod would start, and only its
/// node would know why.
///
/// # Errors
/// In words for a person.
pub(crate) fn image(text: &str) -> Result<String, String> {
    let text = text.trim();
    if is_image(text) {
        Ok(text.to_owned())
    } else {
        Err("not an image: write [REGISTRY/]NAME[:TAG][@sha256:DIGEST], such as registry.example/kubernaut:v1".to_owned())
    }
}

/// Whether the image comes from a registry that it names; without one, a node asks the one of its own settings.
pub(crate) fn names_a_registry(image: &str) -> bool {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    !rest.is_empty() && (first.contains(['.', ':']) || first == "localhost")
}

fn is_image(text: &str) -> bool {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash is that of a port.
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let good_digest = |digest: &str| {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let good_tag = |tag: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        (1..=TAG_MAX).contains(&tag.len()) && tag.bytes().all(inner) && !tag.starts_with(['.', '-'])
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.len() > 1 && names_a_registry(path) {
        let host = parts.remove(0);
        let (host, port) = host.split_once(':').unwrap_or((host, "0"));
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        if host.is_empty() || !host.bytes().all(inner) || port.parse::<u16>().is_err() {
            return false;
        }
    }
    path.len() <= NAME_MAX
        && parts.into_iter().all(good_part)
        && tag.is_none_or(good_tag)
        && digest.is_none_or(good_digest)
}

fn good_part(part: &str) -> bool {
    let end = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let bytes = part.as_bytes();
    end(bytes.first()) && end(bytes.last()) && bytes.iter().copied().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_could_pull_is_an_image_and_nothing_else_is() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for good in [
            "kubernaut:v0.1.0",
            "kubernaut",
            "registry.k8s.io/kubectl:v1.35.4",
            "localhost/a",
            "localhost:5000/a/b_c/d.e:1",
            "team/kubernaut",
            &format!("registry.example:5000/kubernaut:v1@{digest}"),
            &format!("registry.example/kubernaut@{digest}"),
        ] {
            assert_eq!(image(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "bad image!!",
            "Kubernaut:v1",
            "a:",
            "a@sha256:12",
            "a@",
            "/a",
            "a/",
            "a//b",
            "https://registry.example/a",
            "registry.example:port/a",
            "a:-1",
        ] {
            assert!(image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_looks_like_a_host_is_a_registry() {
        for image in ["registry.example/a", "localhost/a", "host:5000/a"] {
            assert!(names_a_registry(image), "{image}");
        }
        for image in ["kubernaut:v0.1.0", "team/kubernaut", "a"] {
            assert!(!names_a_registry(image), "{image}");
        }
    }
}
