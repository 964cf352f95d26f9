//! Writes the CRDs, made from the Rust types, to `crds/yaml` and into the Helm chart.

use std::path::Path;
use std::{fs, io};

use fulmar_crds::definition;

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, crd) in definition::all() {
        fs::write(root.join("yaml").join(format!("{name}.yaml")), definition::yaml(&crd))?;
        let chart = root.join("../charts/fulmar/templates/crds");
        fs::create_dir_all(&chart)?;
        fs::write(chart.join(format!("{name}.yaml")), definition::chart_yaml(&crd))?;
    }
    Ok(())
}
