//! Prints all definitions as YAML.
fn main() {
    for d in gantry_crds::definitions() {
        println!("---\n{}", serde_yaml::to_string(&d).unwrap_or_default());
    }
}
