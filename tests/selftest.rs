//! The laws that the command proves again, and what its exit code says.

use sus_oracle::selftest::LAWS;

#[test]
fn every_law_holds() {
    for law in LAWS {
        match (law.prove)() {
            Ok(found) => println!("{}: {found}", law.name),
            Err(found) => panic!("{}: {found}", law.name),
        }
    }
}
