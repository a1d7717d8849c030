//! Commands that change one object.

use serde_json::{Value, json};

use crate::api::state::State;
use crate::kubectl::Process;
use crate::kubectl::call::{Failure, bytes, path_of, printed};

const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// `kubectl scale`: reads the object, then patches its scale.
pub(crate) fn scale(state: &mut State, process: &mut Process, target: &str) -> Result<(), Failure> {
    let (_, path) = process.resolve(state, target)?;
    let replicas: i64 = process
        .arguments
        .flag("replicas")
        .and_then(|r| r.parse().ok())
        .ok_or_else(|| Failure::Text("error: required flag(s) \"replicas\" not set".to_owned()))?;
    if replicas < 0 {
        return Err(Failure::Text(
            "error: The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0"
                .to_owned(),
        ));
    }
    let object = process.get(state, &path)?;
    let query = process.write_query("kubectl-scale");
    let body = bytes(&json!({"spec": {"replicas": replicas}}));
    process.call(state, "PATCH", &format!("{path}/scale{query}"), MERGE, body)?;
    let line = format!("{} scaled{}", printed(&object), process.suffix());
    process.print(&line);
    Ok(())
}

/// `kubectl patch`: reads the object (or subresource), then patches it.
pub(crate) fn patch(state: &mut State, process: &mut Process, target: &str) -> Result<(), Failure> {
    let (_, path) = process.resolve(state, target)?;
    let path = match process.arguments.flag("subresource") {
        Some(subresource) => format!("{path}/{subresource}"),
        None => path,
    };
    let media = match process.arguments.flag("type").unwrap_or("strategic") {
        "json" => "application/json-patch+json",
        "merge" => MERGE,
        "strategic" => STRATEGIC,
        other => {
            return Err(Failure::Text(format!(
                "error: --type must be one of [json merge strategic], not {other:?}"
            )));
        }
    };
    let text = match (
        process.arguments.flag("patch"),
        process.arguments.flag("patch-file"),
    ) {
        (Some(text), _) => text.to_owned(),
        (None, Some(file)) => process.read_file(state, file)?,
        (None, None) => {
            return Err(Failure::Text(
                "error: must specify --patch or --patch-file containing the contents of the patch".to_owned(),
            ));
        }
    };
    let parsed: Value = serde_saphyr::from_str(&text)
        .map_err(|e| Failure::Text(format!("error: unable to parse {text:?}: {e}")))?;
    let before = process.get(state, &path)?;
    let manager = process.arguments.flag("field-manager").unwrap_or("kubectl-patch");
    let query = process.write_query(manager);
    let after = process.call(state, "PATCH", &format!("{path}{query}"), media, bytes(&parsed))?;
    let changed = if before == after { " (no change)" } else { "" };
    let line = format!("{} patched{}{changed}", printed(&after), process.suffix());
    process.print(&line);
    Ok(())
}

/// `kubectl create --raw` and `kubectl delete --raw`: sends a file, prints the answer.
pub(crate) fn raw(state: &mut State, process: &mut Process, method: &str) -> Result<(), Failure> {
    let path = process
        .arguments
        .flag("raw")
        .ok_or_else(|| Failure::Text("error: must specify one of -f and -k".to_owned()))?
        .to_owned();
    let body = match process.arguments.flag("filename") {
        Some(file) => process.read_file(state, file)?,
        None => String::new(),
    };
    let answer = process.call(state, method, &path, "application/json", body.into_bytes())?;
    let line = answer.to_string();
    process.print(&line);
    Ok(())
}

/// `kubectl apply --server-side`.
pub(crate) fn apply(state: &mut State, process: &mut Process) -> Result<(), Failure> {
    if !process.arguments.is_set("server-side") {
        return Err(Failure::Text(
            "error: only server-side apply is known here".to_owned(),
        ));
    }
    let file = process.arguments.flag("filename").unwrap_or("").to_owned();
    let text = process.read_file(state, &file)?;
    let mut object: Value = serde_saphyr::from_str(&text)
        .map_err(|e| Failure::Text(format!("error: error parsing {file}: {e}")))?;
    let field = |object: &Value, name: &str| object[name].as_str().unwrap_or("").to_owned();
    let (version, kind_name) = (field(&object, "apiVersion"), field(&object, "kind"));
    let kind = state.kinds.by_kind(&version, &kind_name).cloned().ok_or_else(|| {
        Failure::Text(format!(
            "error: resource mapping not found for name: \"{}\" namespace: \"{}\" from \"{file}\": no matches for \
             kind \"{kind_name}\" in version \"{version}\"\nensure CRDs are installed first",
            field(&object["metadata"], "name"),
            field(&object["metadata"], "namespace"),
        ))
    })?;
    if kind.namespaced && object["metadata"].is_object() && object["metadata"]["namespace"].is_null() {
        let namespace = process.arguments.flag("namespace").unwrap_or(&process.namespace);
        object["metadata"]["namespace"] = json!(namespace);
    }
    let path = path_of(
        &kind,
        &field(&object["metadata"], "namespace"),
        &field(&object["metadata"], "name"),
    );
    let manager = process.arguments.flag("field-manager").unwrap_or("kubectl");
    let force = process.arguments.is_set("force-conflicts");
    let query = format!(
        "{}&force={force}&fieldValidation=Strict",
        process.write_query(manager)
    );
    let applied = process
        .call(
            state,
            "PATCH",
            &format!("{path}{query}"),
            "application/apply-patch+yaml",
            bytes(&object),
        )
        .map_err(explain_conflict)?;
    let line = format!("{} serverside-applied{}", printed(&applied), process.suffix());
    process.print(&line);
    Ok(())
}

/// A conflict loses its status on the way through kubectl and gains advice.
fn explain_conflict(failure: Failure) -> Failure {
    if failure.code() != 409 {
        return failure;
    }
    Failure::Text(format!(
        "error: {}\nPlease review the fields above--they currently have other managers. Here\nare the ways you can \
         resolve this warning:\n* If you intend to manage all of these fields, please re-run the apply\n  command \
         with the `--force-conflicts` flag.\n* If you do not intend to manage all of the fields, please edit your\n  \
         manifest to remove references to the fields that should keep their\n  current managers.\n* You may co-own \
         fields by updating your manifest to match the existing\n  value; in this case, you'll become the manager if \
         the other manager(s)\n  stop managing the field (remove it from their configuration).\nSee \
         https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts",
        failure.message()
    ))
}

/// `kubectl cordon` and `kubectl uncordon`.
pub(crate) fn cordon(
    state: &mut State,
    process: &mut Process,
    node: &str,
    wanted: bool,
) -> Result<(), Failure> {
    let path = format!("/api/v1/nodes/{node}");
    let object = process.get(state, &path)?;
    let word = if wanted { "cordoned" } else { "uncordoned" };
    let line = if (object["spec"]["unschedulable"] == true) == wanted {
        format!("node/{node} already {word}{}", process.suffix())
    } else {
        let value = if wanted { json!(true) } else { Value::Null };
        let body = bytes(&json!({"spec": {"unschedulable": value}}));
        let query = process.write_query(if wanted {
            "kubectl-cordon"
        } else {
            "kubectl-uncordon"
        });
        process.call(state, "PATCH", &format!("{path}{query}"), STRATEGIC, body)?;
        format!("node/{node} {word}{}", process.suffix())
    };
    process.print(&line);
    Ok(())
}
