//! Writes the manifests of the custom resources into the directory given (default `crds/yaml`).

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from("crds/yaml"), PathBuf::from);
    std::fs::create_dir_all(&directory)?;
    for (file, crd) in [
        ("workflowexecutions.yaml", kubernaut_crds::workflow_crd()),
        ("kubernetesexecutions.yaml", kubernaut_crds::execution_crd()),
        ("approvals.yaml", kubernaut_crds::approval_crd()),
    ] {
        std::fs::write(directory.join(file), kubernaut_crds::manifest_yaml(&crd)?)?;
    }
    Ok(())
}
