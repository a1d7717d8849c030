//! One control plane for the tests that don't disturb each other: each works in namespaces of its own.

use kubernaut_testbed::{ControlPlane, ControlPlaneOptions};
use tokio::sync::OnceCell;

/// A control plane with the custom resources installed, and no controller.
pub(crate) async fn api_server() -> &'static ControlPlane {
    static BED: OnceCell<ControlPlane> = OnceCell::const_new();
    BED.get_or_init(async || {
        let control_plane = ControlPlane::start(ControlPlaneOptions::default())
            .await
            .expect("a control plane");
        install_crds(&control_plane).await;
        control_plane
    })
    .await
}

/// Installs the custom resources and waits until they are served.
pub(crate) async fn install_crds(control_plane: &ControlPlane) {
    for crd in [kubernaut_crds::workflow_crd(), kubernaut_crds::execution_crd()] {
        let name = crd.metadata.name.clone().expect("a name");
        control_plane
            .apply_yaml(&kubernaut_crds::manifest_yaml(&crd).expect("a manifest"))
            .await
            .expect("applied");
        control_plane
            .run_kubectl(&[
                "wait",
                "--for=condition=Established",
                "--timeout=30s",
                &format!("crd/{name}"),
            ])
            .await
            .expect("established");
    }
}
