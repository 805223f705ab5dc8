//! Every operation in one table: what it is called, which access it needs, and how far it reaches
//! for callers that are confined to domains. The documentation is made from it, and a test goes
//! through every door with every role and holds what happens against it.

use super::*;
use crate::auth::Access;
use crate::manager::Operation;

/// What callers that are confined to domains have of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// It is about one domain: one of theirs, or nothing.
    Domain,
    /// It is about all domains: they see their part.
    Domains,
    /// It is about something else: nothing.
    Node,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub operation: &'static str,
    pub access: Access,
    pub reach: Reach,
}

macro_rules! operations {
    ($($operation:ident: $reach:ident,)*) => {
        /// By name.
        pub const OPERATIONS: &[Row] = &[$(Row {
            operation: <$operation as Operation>::NAME,
            access: <$operation as Operation>::ACCESS,
            reach: Reach::$reach,
        }),*];
        /// Their types, for the test that none is missing.
        #[cfg(test)]
        const TYPES: &[&str] = &[$(stringify!($operation)),*];
    };
}

operations! {
    GetAudit: Node,
    AddViewer: Domain,
    GetAllStats: Domains,
    ApplyDomain: Domain,
    AskAgent: Domain,
    AttachDevice: Domain,
    BeginBackup: Domain,
    DumpBackup: Domain,
    ChangeIoThread: Domain,
    ChangeMedium: Domain,
    CreateCheckpoint: Domain,
    DeleteCheckpoint: Domain,
    ListCheckpoints: Domain,
    DumpCheckpoint: Domain,
    CloneDomain: Node,
    CreateDomain: Domain,
    DefineDomain: Domain,
    DescribeDomain: Domain,
    DescribeDisk: Domain,
    DestroyDomain: Domain,
    DetachDevice: Domain,
    DumpDomain: Domain,
    DumpSecureXml: Domain,
    DumpXml: Domain,
    EndBlockJob: Domain,
    FindDomain: Domain,
    FreezeFilesystems: Domain,
    GuestAddresses: Domain,
    GuestExec: Domain,
    GuestExecStatus: Domain,
    ListGuestFilesystems: Domain,
    GuestHostname: Domain,
    GetGuestInfo: Domain,
    GetGuestTime: Domain,
    GetGuestVcpus: Domain,
    InjectNmi: Domain,
    LeasedAddresses: Domain,
    LimitBlockJob: Domain,
    ListDomains: Domains,
    ListBlockJobs: Domain,
    ListDisks: Domain,
    ListInterfaces: Domain,
    ManagedSave: Domain,
    DefineManagedSave: Domain,
    DropManagedSave: Domain,
    DumpManagedSave: Domain,
    MeasureDirtyRate: Domain,
    GetMetadata: Domain,
    GetMigrationSpeed: Domain,
    NeighbourAddresses: Domain,
    OpenConsole: Domain,
    OpenViewer: Domain,
    PeekDisk: Domain,
    PeekMemory: Domain,
    PlanDomain: Domain,
    RebootDomain: Domain,
    RedefineDomain: Domain,
    RenameDomain: Domain,
    ResetDomain: Domain,
    ResizeDisk: Domain,
    RestoreDomain: Node,
    ResumeDomain: Domain,
    SaveDomain: Domain,
    TakeScreenshot: Domain,
    DomainSecurity: Domain,
    SendKeys: Domain,
    SetAgentTimeout: Domain,
    SetAutostart: Domain,
    SetBlockThreshold: Domain,
    SetGuestTime: Domain,
    SetGuestVcpus: Domain,
    SetLifecycleAction: Domain,
    SetLink: Domain,
    SetMemory: Domain,
    SetMemoryStatsPeriod: Domain,
    SetMetadata: Domain,
    SetMigrationSpeed: Domain,
    SetSshKeys: Domain,
    SetUserPassword: Domain,
    SetVcpus: Domain,
    ShutdownDomain: Domain,
    CreateSnapshot: Domain,
    DeleteSnapshot: Domain,
    DescribeSnapshot: Domain,
    ListSnapshots: Domain,
    RedefineSnapshot: Domain,
    RevertToSnapshot: Domain,
    DumpSecureSnapshot: Domain,
    DumpSnapshot: Domain,
    GetSshKeys: Domain,
    StartDomain: Domain,
    StartBlockJob: Domain,
    GetDomainState: Domain,
    GetDomainStats: Domain,
    SuspendDomain: Domain,
    SuspendGuest: Domain,
    ThawFilesystems: Domain,
    TrimFilesystems: Domain,
    TuneDomain: Domain,
    GetTuning: Domain,
    UndefineDomain: Domain,
    UpdateDevice: Domain,
    Subscribe: Domains,
    ListImageUsers: Node,
    ApplyImport: Node,
    PlanImport: Node,
    AbortJob: Node,
    GetJob: Node,
    ListJobs: Node,
    ChangeNetwork: Node,
    CreateNetwork: Node,
    DefineNetwork: Node,
    DefineFilter: Node,
    DescribeNetwork: Node,
    DumpNetworkXml: Node,
    DescribeFilter: Node,
    DescribeFilterBinding: Node,
    ListFilterBindings: Node,
    ListFilters: Node,
    NetworkLeases: Node,
    ListNetworks: Node,
    DumpNetworkPortXml: Node,
    ListNetworkPorts: Node,
    UndefineFilter: Node,
    UpdateNetwork: Node,
    AllocatePages: Node,
    BaselineCpu: Node,
    GetCapabilities: Node,
    ListCells: Node,
    CompareCpu: Node,
    GetCpuCounters: Node,
    DescribeNodeDevice: Node,
    ListNodeDevices: Node,
    GetDomainCapabilities: Node,
    GetNode: Node,
    ListHostInterfaces: Node,
    GetSharedMemory: Node,
    GetSysinfo: Node,
    TuneSharedMemory: Node,
    WatchNodeDevices: Node,
    GetPoolCapabilities: Node,
    ChangePool: Node,
    CreatePool: Node,
    DefinePool: Node,
    DescribePool: Node,
    DumpPoolXml: Node,
    ListPools: Node,
    FindPoolSources: Node,
    CheckSaved: Node,
    CloneSaved: Node,
    DefineSaved: Node,
    DumpSaved: Node,
    DefineSecret: Node,
    DescribeSecret: Node,
    DumpSecretXml: Node,
    GetSecretValue: Node,
    ListSecrets: Node,
    SetSecretValue: Node,
    UndefineSecret: Node,
    CreateToken: Node,
    ListTokens: Node,
    RevokeToken: Node,
    ListUsers: Node,
    RemoveUser: Node,
    SetUser: Node,
    CloneVolume: Node,
    CreateVolume: Node,
    DeleteVolume: Node,
    DescribeVolume: Node,
    DownloadVolume: Node,
    FindVolume: Node,
    ListVolumes: Node,
    ResizeVolume: Node,
    UploadVolume: Node,
    WipeVolume: Node,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Types that are operations, by the sources of this module.
    fn implemented(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                implemented(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let named = text.lines().filter_map(|line| line.strip_prefix("impl Operation for "));
            found.extend(named.filter_map(|rest| rest.split([' ', '<']).next()).map(str::to_owned));
        }
    }

    #[test]
    fn no_operation_is_missing_in_the_table() {
        let mut found = BTreeSet::new();
        implemented(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops"), &mut found);
        assert_eq!(TYPES.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), found);
        assert!(OPERATIONS.is_sorted_by(|a, b| a.operation < b.operation), "sort it by name");
    }
}
