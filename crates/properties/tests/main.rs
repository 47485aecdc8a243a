//! Every property holds.

use sus_properties::PROPERTIES;

#[test]
fn every_property_holds() {
    for property in PROPERTIES {
        match (property.check)() {
            Ok(found) => println!("{}: {found}", property.name),
            Err(found) => panic!("{}: {found}", property.name),
        }
    }
}

#[test]
fn names_are_unique() {
    let names: std::collections::BTreeSet<&str> = PROPERTIES.iter().map(|p| p.name).collect();
    assert_eq!(names.len(), PROPERTIES.len());
}
