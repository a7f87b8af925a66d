//! The dashboard is embedded anew when it was built anew.

fn main() {
    println!("cargo:rerun-if-changed=dashboard/dist");
}
