//! Every procedure of libvirt's protocol: those that Manor has, with the operations that they are
//! made of, and the names of the others. The documentation is made from it.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use management::Operation;
use management::ops;

use super::failure::Failure;
use super::procedures::*;
use super::protocol::packet::QEMU;
use super::protocol::xdr::{Decode, Decoder, Encode};
use super::session::Session;
use super::stream::Stream;

mod document;
mod others;
mod refused;

pub use document::compatibility;

/// What a call is answered with.
pub(super) struct Answer {
    pub(super) payload: Vec<u8>,
    /// What goes with it.
    pub(super) files: Vec<OwnedFd>,
    pub(super) stream: Option<Stream>,
}

/// A call as it came, but for its header.
pub(super) struct Call {
    pub(super) payload: Bytes,
    pub(super) files: Files,
}

/// What came after a call: so many descriptors, of which the first was kept.
pub(crate) struct Files {
    pub(crate) first: Option<OwnedFd>,
    pub(crate) count: u32,
}

/// Arguments that descriptors may come with.
pub(crate) struct Passed<T> {
    pub(crate) arguments: T,
    pub(crate) files: Files,
}

/// How a procedure takes what it is called with.
trait FromCall: Sized {
    fn from_call(call: Call) -> Result<Self, Failure>;
}

fn arguments<T: Decode>(payload: &Bytes) -> Result<T, Failure> {
    T::decode(&mut Decoder::new(payload)).map_err(Failure::malformed)
}

impl<T: Decode> FromCall for T {
    fn from_call(call: Call) -> Result<Self, Failure> {
        match call.files.count {
            0 => arguments(&call.payload),
            _ => Err(Failure::no_support("this procedure takes no descriptors")),
        }
    }
}

impl<T: Decode> FromCall for Passed<T> {
    fn from_call(call: Call) -> Result<Self, Failure> {
        Ok(Self { arguments: arguments(&call.payload)?, files: call.files })
    }
}

/// An answer that bytes follow.
pub(crate) struct Streaming<T> {
    pub(crate) answer: T,
    pub(crate) stream: Stream,
}

/// An answer that descriptors come with.
pub(crate) struct WithFiles<T> {
    pub(crate) answer: T,
    pub(crate) files: Vec<OwnedFd>,
}

pub(super) trait IntoAnswer {
    fn into_answer(self) -> Answer;
}

fn encoded(answer: &impl Encode) -> Vec<u8> {
    let mut payload = Vec::new();
    answer.encode(&mut payload);
    payload
}

impl<T: Encode> IntoAnswer for T {
    fn into_answer(self) -> Answer {
        Answer { payload: encoded(&self), files: Vec::new(), stream: None }
    }
}

impl<T: Encode> IntoAnswer for Streaming<T> {
    fn into_answer(self) -> Answer {
        let (payload, stream) = (encoded(&self.answer), Some(self.stream));
        Answer { payload, files: Vec::new(), stream }
    }
}

impl<T: Encode> IntoAnswer for WithFiles<T> {
    fn into_answer(self) -> Answer {
        Answer { payload: encoded(&self.answer), files: self.files, stream: None }
    }
}

type Running = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// A procedure that Manor has.
pub(super) struct Procedure {
    pub(super) number: i32,
    pub(super) name: &'static str,
    /// What it asks for, by the names of operations: what these need, it needs.
    pub(super) operations: &'static [&'static str],
    /// What of it is missing.
    pub(super) gap: Option<&'static str>,
    run: fn(Arc<Session>, Call) -> Running,
}

/// Decode, do, encode.
async fn decoded<A, R, F>(
    session: Arc<Session>,
    call: Call,
    procedure: impl FnOnce(Arc<Session>, A) -> F,
) -> Result<Answer, Failure>
where
    A: FromCall,
    R: IntoAnswer,
    F: Future<Output = Result<R, Failure>>,
{
    Ok(procedure(session, A::from_call(call)?).await?.into_answer())
}

/// What may be called before a connection is open.
fn precedes_opening(number: i32) -> bool {
    matches!(number, 1 | 60 | 66..=70)
}

pub(super) async fn run(
    session: &Arc<Session>,
    program: u32,
    number: i32,
    call: Call,
) -> Result<Answer, Failure> {
    let is_qemu = program == QEMU;
    let (all, not_yet) = match is_qemu {
        true => (QEMU_PROCEDURES, others::QEMU_NOT_YET),
        false => (PROCEDURES, others::NOT_YET),
    };
    let found = all.binary_search_by_key(&number, |procedure| procedure.number);
    let Ok(procedure) = found.map(|at| &all[at]) else {
        let refused = refused::REFUSED.iter().find(|(known, ..)| !is_qemu && *known == number);
        if let Some((_, _, why)) = refused
            && session.opened().is_some()
        {
            return Err(Failure::no_support(why));
        }
        let name = not_yet.iter().find(|(known, _)| *known == number);
        return Err(Failure::unknown_procedure(number, name.map(|(_, name)| *name)));
    };
    if session.wants_password() && (is_qemu || !(66..=70).contains(&number)) {
        return Err(Failure::authentication("authentication is required"));
    }
    if session.opened().is_none() && (is_qemu || !precedes_opening(number)) {
        return Err(Failure::not_open());
    }
    (procedure.run)(session.clone(), call).await
}

macro_rules! gap {
    () => {
        None
    };
    ($gap:literal) => {
        Some($gap)
    };
}

macro_rules! procedures {
    ($list:ident: $($number:literal $name:ident [$($operation:ident)*] $run:path $(, partly $gap:literal)?;)*) => {
        /// By number.
        pub(super) const $list: &[Procedure] = &[$(Procedure {
            number: $number,
            name: stringify!($name),
            operations: &[$(<ops::$operation as Operation>::NAME),*],
            gap: gap!($($gap)?),
            run: |session, call| Box::pin(decoded(session, call, $run)),
        }),*];
    };
}

// Of the program that has what is about QEMU alone.
procedures! {
    QEMU_PROCEDURES:
    3 QEMU_DOMAIN_AGENT_COMMAND [AskAgent] guest::agent_command;
}

procedures! {
    PROCEDURES:
    1 CONNECT_OPEN [] connect::open;
    2 CONNECT_CLOSE [] connect::close;
    3 CONNECT_GET_TYPE [] connect::get_type;
    4 CONNECT_GET_VERSION [GetNode] connect::version;
    5 CONNECT_GET_MAX_VCPUS [] connect::max_vcpus;
    6 NODE_GET_INFO [GetNode] node::info;
    7 CONNECT_GET_CAPABILITIES [GetCapabilities] connect::capabilities;
    8 DOMAIN_ATTACH_DEVICE [AttachDevice] device::attach;
    9 DOMAIN_CREATE [StartDomain] lifecycle::create;
    10 DOMAIN_CREATE_XML [CreateDomain FindDomain] lifecycle::create_xml;
    11 DOMAIN_DEFINE_XML [DefineDomain FindDomain] lifecycle::define;
    12 DOMAIN_DESTROY [DestroyDomain] lifecycle::destroy;
    13 DOMAIN_DETACH_DEVICE [DetachDevice] device::detach;
    14 DOMAIN_GET_XML_DESC [DumpXml DumpSecureXml] domain::xml, partly "host-model is not expanded";
    15 DOMAIN_GET_AUTOSTART [FindDomain] domain::autostart;
    16 DOMAIN_GET_INFO [FindDomain] domain::info;
    17 DOMAIN_GET_MAX_MEMORY [FindDomain] resources::max_memory;
    18 DOMAIN_GET_MAX_VCPUS [FindDomain] resources::max_vcpus;
    19 DOMAIN_GET_OS_TYPE [DescribeDomain] domain::os_type;
    20 DOMAIN_GET_VCPUS [GetDomainStats GetTuning GetNode] stats::vcpus;
    21 CONNECT_LIST_DEFINED_DOMAINS [ListDomains] domain::inactive_names;
    22 DOMAIN_LOOKUP_BY_ID [FindDomain] domain::by_id;
    23 DOMAIN_LOOKUP_BY_NAME [FindDomain] domain::by_name;
    24 DOMAIN_LOOKUP_BY_UUID [FindDomain] domain::by_uuid;
    25 CONNECT_NUM_OF_DEFINED_DOMAINS [ListDomains] domain::inactive_count;
    26 DOMAIN_PIN_VCPU [TuneDomain] resources::pin_vcpu;
    27 DOMAIN_REBOOT [RebootDomain] lifecycle::reboot;
    28 DOMAIN_RESUME [ResumeDomain] lifecycle::resume;
    29 DOMAIN_SET_AUTOSTART [SetAutostart] lifecycle::set_autostart;
    30 DOMAIN_SET_MAX_MEMORY [TuneDomain] resources::set_max_memory;
    31 DOMAIN_SET_MEMORY [SetMemory] resources::set_memory;
    32 DOMAIN_SET_VCPUS [TuneDomain SetGuestVcpus] resources::set_live_vcpus;
    33 DOMAIN_SHUTDOWN [ShutdownDomain] lifecycle::shutdown;
    34 DOMAIN_SUSPEND [SuspendDomain] lifecycle::suspend;
    35 DOMAIN_UNDEFINE [UndefineDomain] lifecycle::undefine;
    36 CONNECT_LIST_DEFINED_NETWORKS [ListNetworks] network::inactive_names;
    37 CONNECT_LIST_DOMAINS [ListDomains] domain::active_ids;
    38 CONNECT_LIST_NETWORKS [ListNetworks] network::active_names;
    39 NETWORK_CREATE [ChangeNetwork] network::create;
    40 NETWORK_CREATE_XML [CreateNetwork] network::create_xml;
    41 NETWORK_DEFINE_XML [DefineNetwork] network::define;
    42 NETWORK_DESTROY [ChangeNetwork] network::destroy;
    43 NETWORK_GET_XML_DESC [DumpNetworkXml] network::xml;
    44 NETWORK_GET_AUTOSTART [DescribeNetwork] network::autostart;
    45 NETWORK_GET_BRIDGE_NAME [DescribeNetwork] network::bridge_name;
    46 NETWORK_LOOKUP_BY_NAME [DescribeNetwork] network::by_name;
    47 NETWORK_LOOKUP_BY_UUID [DescribeNetwork] network::by_uuid;
    48 NETWORK_SET_AUTOSTART [ChangeNetwork] network::set_autostart;
    49 NETWORK_UNDEFINE [ChangeNetwork] network::undefine;
    50 CONNECT_NUM_OF_DEFINED_NETWORKS [ListNetworks] network::inactive_count;
    51 CONNECT_NUM_OF_DOMAINS [ListDomains] domain::active_count;
    52 CONNECT_NUM_OF_NETWORKS [ListNetworks] network::active_count;
    53 DOMAIN_CORE_DUMP [DumpDomain GetJob] saved::core_dump, partly "an ELF core always; by way of the host's cache";
    54 DOMAIN_RESTORE [RestoreDomain] saved::restore;
    55 DOMAIN_SAVE [SaveDomain GetJob] saved::save;
    56 DOMAIN_GET_SCHEDULER_TYPE [GetTuning] tuning::scheduler;
    57 DOMAIN_GET_SCHEDULER_PARAMETERS [GetTuning] tuning::cpu;
    58 DOMAIN_SET_SCHEDULER_PARAMETERS [TuneDomain] tuning::set_cpu;
    59 CONNECT_GET_HOSTNAME [GetNode] connect::hostname;
    60 CONNECT_SUPPORTS_FEATURE [] connect::supports_feature, partly "no migration";
    64 DOMAIN_BLOCK_STATS [GetDomainStats] stats::block;
    65 DOMAIN_INTERFACE_STATS [GetDomainStats] stats::interface;
    66 AUTH_LIST [] sasl::list;
    67 AUTH_SASL_INIT [] sasl::init, partly "SCRAM-SHA-256 alone";
    68 AUTH_SASL_START [] sasl::start, partly "SCRAM-SHA-256 alone";
    69 AUTH_SASL_STEP [] sasl::step, partly "SCRAM-SHA-256 alone";
    71 CONNECT_NUM_OF_STORAGE_POOLS [ListPools] pool::active_count;
    72 CONNECT_LIST_STORAGE_POOLS [ListPools] pool::active_names;
    73 CONNECT_NUM_OF_DEFINED_STORAGE_POOLS [ListPools] pool::inactive_count;
    74 CONNECT_LIST_DEFINED_STORAGE_POOLS [ListPools] pool::inactive_names;
    75 CONNECT_FIND_STORAGE_POOL_SOURCES [FindPoolSources] pool::sources, partly "of volume groups";
    76 STORAGE_POOL_CREATE_XML [CreatePool] pool::create_xml;
    77 STORAGE_POOL_DEFINE_XML [DefinePool] pool::define;
    78 STORAGE_POOL_CREATE [ChangePool] pool::create;
    79 STORAGE_POOL_BUILD [ChangePool] pool::build;
    80 STORAGE_POOL_DESTROY [ChangePool] pool::destroy;
    81 STORAGE_POOL_DELETE [ChangePool] pool::delete;
    82 STORAGE_POOL_UNDEFINE [ChangePool] pool::undefine;
    83 STORAGE_POOL_REFRESH [ChangePool] pool::refresh;
    84 STORAGE_POOL_LOOKUP_BY_NAME [DescribePool] pool::by_name;
    85 STORAGE_POOL_LOOKUP_BY_UUID [DescribePool] pool::by_uuid;
    86 STORAGE_POOL_LOOKUP_BY_VOLUME [DescribePool] pool::by_volume;
    87 STORAGE_POOL_GET_INFO [DescribePool] pool::info;
    88 STORAGE_POOL_GET_XML_DESC [DumpPoolXml] pool::xml;
    89 STORAGE_POOL_GET_AUTOSTART [DescribePool] pool::autostart;
    90 STORAGE_POOL_SET_AUTOSTART [ChangePool] pool::set_autostart;
    91 STORAGE_POOL_NUM_OF_VOLUMES [ListVolumes] pool::volume_count;
    92 STORAGE_POOL_LIST_VOLUMES [ListVolumes] pool::volume_names;
    93 STORAGE_VOL_CREATE_XML [CreateVolume GetJob DescribeVolume] volume::create;
    94 STORAGE_VOL_DELETE [DeleteVolume] volume::delete;
    95 STORAGE_VOL_LOOKUP_BY_NAME [DescribeVolume] volume::by_name;
    96 STORAGE_VOL_LOOKUP_BY_KEY [FindVolume] volume::by_path;
    97 STORAGE_VOL_LOOKUP_BY_PATH [FindVolume] volume::by_path;
    98 STORAGE_VOL_GET_INFO [DescribeVolume] volume::info;
    99 STORAGE_VOL_GET_XML_DESC [DescribeVolume] volume::xml;
    100 STORAGE_VOL_GET_PATH [DescribeVolume] volume::path;
    101 NODE_GET_CELLS_FREE_MEMORY [ListCells] host_memory::cells_free_memory;
    102 NODE_GET_FREE_MEMORY [GetNode] node::free_memory;
    103 DOMAIN_BLOCK_PEEK [PeekDisk] peek::disk;
    104 DOMAIN_MEMORY_PEEK [PeekMemory] peek::memory;
    105 CONNECT_DOMAIN_EVENT_REGISTER [Subscribe] events::old_lifecycle;
    106 CONNECT_DOMAIN_EVENT_DEREGISTER [] events::no_more_old_lifecycle;
    110 CONNECT_GET_URI [] connect::uri;
    111 NODE_NUM_OF_DEVICES [ListNodeDevices] host::device_count;
    112 NODE_LIST_DEVICES [ListNodeDevices] host::device_names;
    113 NODE_DEVICE_LOOKUP_BY_NAME [DescribeNodeDevice] host::device_by_name;
    114 NODE_DEVICE_GET_XML_DESC [DescribeNodeDevice] host::device_xml, partly "computer, PCI, USB, network, SCSI, disks, graphics";
    115 NODE_DEVICE_GET_PARENT [DescribeNodeDevice] host::device_parent;
    116 NODE_DEVICE_NUM_OF_CAPS [DescribeNodeDevice] host::device_kind_count;
    117 NODE_DEVICE_LIST_CAPS [DescribeNodeDevice] host::device_kinds;
    121 DOMAIN_GET_SECURITY_LABEL [FindDomain] domain::security_label, partly "there is no security driver";
    122 NODE_GET_SECURITY_MODEL [] node::security_model, partly "there is no security driver";
    125 STORAGE_VOL_CREATE_XML_FROM [CreateVolume GetJob DescribeVolume] volume::create_from;
    126 CONNECT_NUM_OF_INTERFACES [ListHostInterfaces] host::active_interface_count;
    127 CONNECT_LIST_INTERFACES [ListHostInterfaces] host::active_interface_names;
    128 INTERFACE_LOOKUP_BY_NAME [ListHostInterfaces] host::interface_by_name;
    129 INTERFACE_LOOKUP_BY_MAC_STRING [ListHostInterfaces] host::interface_by_mac;
    130 INTERFACE_GET_XML_DESC [ListHostInterfaces] host::interface_xml, partly "without IP addresses";
    137 CONNECT_NUM_OF_DEFINED_INTERFACES [ListHostInterfaces] host::inactive_interface_count;
    138 CONNECT_LIST_DEFINED_INTERFACES [ListHostInterfaces] host::inactive_interface_names;
    139 CONNECT_NUM_OF_SECRETS [ListSecrets] secret::number;
    140 CONNECT_LIST_SECRETS [ListSecrets] secret::uuids;
    141 SECRET_LOOKUP_BY_UUID [DescribeSecret] secret::by_uuid;
    142 SECRET_DEFINE_XML [DefineSecret] secret::define;
    143 SECRET_GET_XML_DESC [DumpSecretXml] secret::xml;
    144 SECRET_SET_VALUE [SetSecretValue] secret::set_value;
    145 SECRET_GET_VALUE [GetSecretValue] secret::value;
    146 SECRET_UNDEFINE [UndefineSecret] secret::undefine;
    147 SECRET_LOOKUP_BY_USAGE [DescribeSecret] secret::by_usage;
    149 CONNECT_IS_SECURE [] connect::is_secure;
    150 DOMAIN_IS_ACTIVE [FindDomain] domain::is_active;
    151 DOMAIN_IS_PERSISTENT [FindDomain] domain::is_persistent;
    152 NETWORK_IS_ACTIVE [DescribeNetwork] network::is_active;
    153 NETWORK_IS_PERSISTENT [DescribeNetwork] network::is_persistent;
    154 STORAGE_POOL_IS_ACTIVE [DescribePool] pool::is_active;
    155 STORAGE_POOL_IS_PERSISTENT [DescribePool] pool::is_persistent;
    156 INTERFACE_IS_ACTIVE [ListHostInterfaces] host::interface_is_active;
    157 CONNECT_GET_LIB_VERSION [] connect::lib_version;
    158 CONNECT_COMPARE_CPU [CompareCpu] processors::compare;
    159 DOMAIN_MEMORY_STATS [GetDomainStats] stats::memory;
    160 DOMAIN_ATTACH_DEVICE_FLAGS [AttachDevice] device::attach_flags;
    161 DOMAIN_DETACH_DEVICE_FLAGS [DetachDevice] device::detach_flags;
    162 CONNECT_BASELINE_CPU [BaselineCpu] processors::baseline;
    163 DOMAIN_GET_JOB_INFO [FindDomain ListJobs] jobs::info;
    164 DOMAIN_ABORT_JOB [FindDomain ListJobs AbortJob] jobs::abort, partly "going back to a snapshot goes on";
    165 STORAGE_VOL_WIPE [WipeVolume GetJob] volume::wipe;
    166 DOMAIN_MIGRATE_SET_MAX_DOWNTIME [FindDomain] migration::set_max_downtime, partly "refused: there is no live migration";
    167 CONNECT_DOMAIN_EVENT_REGISTER_ANY [Subscribe] events::old_domain, partly "what happens here: see the events";
    168 CONNECT_DOMAIN_EVENT_DEREGISTER_ANY [] events::no_more_old;
    174 DOMAIN_UPDATE_DEVICE_FLAGS [UpdateDevice] device::update_flags, partly "nothing is forced";
    175 NWFILTER_LOOKUP_BY_NAME [ListFilters] filter::by_name;
    176 NWFILTER_LOOKUP_BY_UUID [DescribeFilter] filter::by_uuid;
    177 NWFILTER_GET_XML_DESC [DescribeFilter] filter::xml;
    178 CONNECT_NUM_OF_NWFILTERS [ListFilters] filter::number;
    179 CONNECT_LIST_NWFILTERS [ListFilters] filter::list_names;
    180 NWFILTER_DEFINE_XML [DefineFilter] filter::define;
    181 NWFILTER_UNDEFINE [UndefineFilter] filter::undefine;
    182 DOMAIN_MANAGED_SAVE [ManagedSave GetJob] saved::managed_save;
    183 DOMAIN_HAS_MANAGED_SAVE_IMAGE [FindDomain] domain::has_saved_state;
    184 DOMAIN_MANAGED_SAVE_REMOVE [DropManagedSave] saved::managed_save_remove;
    185 DOMAIN_SNAPSHOT_CREATE_XML [CreateSnapshot RedefineSnapshot GetJob] snapshot::create;
    186 DOMAIN_SNAPSHOT_GET_XML_DESC [DumpSnapshot DumpSecureSnapshot] snapshot::xml;
    187 DOMAIN_SNAPSHOT_NUM [ListSnapshots] snapshot::number;
    188 DOMAIN_SNAPSHOT_LIST_NAMES [ListSnapshots] snapshot::list_names;
    189 DOMAIN_SNAPSHOT_LOOKUP_BY_NAME [DescribeSnapshot] snapshot::by_name;
    190 DOMAIN_HAS_CURRENT_SNAPSHOT [ListSnapshots] snapshot::has_current;
    191 DOMAIN_SNAPSHOT_CURRENT [DescribeSnapshot] snapshot::current;
    192 DOMAIN_REVERT_TO_SNAPSHOT [RevertToSnapshot GetJob] snapshot::revert;
    193 DOMAIN_SNAPSHOT_DELETE [DeleteSnapshot GetJob] snapshot::delete;
    194 DOMAIN_GET_BLOCK_INFO [DescribeDisk] stats::block_info;
    196 DOMAIN_CREATE_WITH_FLAGS [StartDomain FindDomain] lifecycle::create_flags;
    197 DOMAIN_SET_MEMORY_PARAMETERS [TuneDomain] tuning::set_memory, partly "no min_guarantee";
    198 DOMAIN_GET_MEMORY_PARAMETERS [GetTuning] tuning::memory;
    199 DOMAIN_SET_VCPUS_FLAGS [TuneDomain SetGuestVcpus] resources::set_vcpus;
    200 DOMAIN_GET_VCPUS_FLAGS [GetTuning GetGuestVcpus] resources::vcpus;
    201 DOMAIN_OPEN_CONSOLE [OpenConsole] domain::open_console;
    202 DOMAIN_IS_UPDATED [DescribeDomain] domain::is_updated;
    203 CONNECT_GET_SYSINFO [GetSysinfo] node::sysinfo;
    204 DOMAIN_SET_MEMORY_FLAGS [SetMemory TuneDomain] resources::set_memory_flags;
    205 DOMAIN_SET_BLKIO_PARAMETERS [TuneDomain] tuning::set_block, partly "the weight; devices by their definition";
    206 DOMAIN_GET_BLKIO_PARAMETERS [GetTuning] tuning::block, partly "the weight";
    207 DOMAIN_MIGRATE_SET_MAX_SPEED [SetMigrationSpeed FindDomain] migration::set_max_speed, partly "kept, and used by nothing: there is no live migration";
    208 STORAGE_VOL_UPLOAD [UploadVolume] volume::upload;
    209 STORAGE_VOL_DOWNLOAD [DownloadVolume] volume::download;
    210 DOMAIN_INJECT_NMI [InjectNmi] lifecycle::inject_nmi;
    211 DOMAIN_SCREENSHOT [TakeScreenshot] lifecycle::screenshot, partly "of the first screen";
    212 DOMAIN_GET_STATE [GetDomainState] domain::state;
    219 DOMAIN_SET_SCHEDULER_PARAMETERS_FLAGS [TuneDomain] tuning::set_cpu_flags;
    223 DOMAIN_GET_SCHEDULER_PARAMETERS_FLAGS [GetTuning] tuning::cpu_flags;
    225 DOMAIN_PIN_VCPU_FLAGS [TuneDomain] resources::pin_vcpu_flags;
    226 DOMAIN_SEND_KEY [SendKeys] lifecycle::send_key;
    227 NODE_GET_CPU_STATS [GetNode GetCpuCounters] node::cpu_stats;
    228 NODE_GET_MEMORY_STATS [GetNode ListCells] node::memory_stats;
    229 DOMAIN_GET_CONTROL_INFO [FindDomain] domain::control_info;
    230 DOMAIN_GET_VCPU_PIN_INFO [GetTuning GetNode] resources::vcpu_pins;
    231 DOMAIN_UNDEFINE_FLAGS [UndefineDomain] lifecycle::undefine_flags;
    232 DOMAIN_SAVE_FLAGS [SaveDomain GetJob] saved::save_flags;
    233 DOMAIN_RESTORE_FLAGS [RestoreDomain] saved::restore_flags;
    234 DOMAIN_DESTROY_FLAGS [DestroyDomain] lifecycle::destroy_flags;
    235 DOMAIN_SAVE_IMAGE_GET_XML_DESC [DumpSaved] saved::image_xml;
    236 DOMAIN_SAVE_IMAGE_DEFINE_XML [DefineSaved] saved::image_define;
    237 DOMAIN_BLOCK_JOB_ABORT [EndBlockJob] block_job::abort;
    238 DOMAIN_GET_BLOCK_JOB_INFO [ListBlockJobs ListDisks] block_job::info;
    239 DOMAIN_BLOCK_JOB_SET_SPEED [LimitBlockJob] block_job::limit;
    240 DOMAIN_BLOCK_PULL [StartBlockJob] block_job::pull;
    242 DOMAIN_MIGRATE_GET_MAX_SPEED [GetMigrationSpeed FindDomain] migration::max_speed;
    243 DOMAIN_BLOCK_STATS_FLAGS [GetDomainStats] stats::block_flags;
    244 DOMAIN_SNAPSHOT_GET_PARENT [DescribeSnapshot] snapshot::parent;
    245 DOMAIN_RESET [ResetDomain] lifecycle::reset;
    246 DOMAIN_SNAPSHOT_NUM_CHILDREN [ListSnapshots DescribeSnapshot] snapshot::number_of_children;
    247 DOMAIN_SNAPSHOT_LIST_CHILDREN_NAMES [ListSnapshots DescribeSnapshot] snapshot::list_children_names;
    249 DOMAIN_OPEN_GRAPHICS [AddViewer] domain::add_viewer, partly "of the first screen";
    251 DOMAIN_BLOCK_RESIZE [ResizeDisk] device::resize_disk;
    252 DOMAIN_SET_BLOCK_IO_TUNE [TuneDomain] tuning::set_disk;
    253 DOMAIN_GET_BLOCK_IO_TUNE [GetTuning ListDisks] tuning::disk;
    254 DOMAIN_SET_NUMA_PARAMETERS [TuneDomain] tuning::set_numa, partly "not of a running guest";
    255 DOMAIN_GET_NUMA_PARAMETERS [GetTuning] tuning::numa;
    256 DOMAIN_SET_INTERFACE_PARAMETERS [TuneDomain] tuning::set_interface, partly "no floor";
    257 DOMAIN_GET_INTERFACE_PARAMETERS [GetTuning ListInterfaces] tuning::interface, partly "no floor";
    258 DOMAIN_SHUTDOWN_FLAGS [ShutdownDomain] lifecycle::shutdown_flags, partly "by the power button or the agent";
    259 STORAGE_VOL_WIPE_PATTERN [WipeVolume GetJob] volume::wipe_pattern;
    260 STORAGE_VOL_RESIZE [ResizeVolume] volume::resize;
    261 DOMAIN_PM_SUSPEND_FOR_DURATION [SuspendGuest] guest_cpus::suspend, partly "to the guest's disk, by the agent: there is no S3";
    262 DOMAIN_GET_CPU_STATS [GetDomainStats] stats::cpu, partly "the total alone";
    263 DOMAIN_GET_DISK_ERRORS [GetDomainStats] stats::disk_errors;
    264 DOMAIN_SET_METADATA [SetMetadata] metadata::set;
    265 DOMAIN_GET_METADATA [GetMetadata] metadata::get;
    266 DOMAIN_BLOCK_REBASE [StartBlockJob] block_job::rebase;
    267 DOMAIN_PM_WAKEUP [FindDomain] lacking::wake_up, partly "refused: no guest is in S3";
    271 DOMAIN_SNAPSHOT_IS_CURRENT [DescribeSnapshot] snapshot::is_current;
    272 DOMAIN_SNAPSHOT_HAS_METADATA [DescribeSnapshot] snapshot::has_metadata;
    273 CONNECT_LIST_ALL_DOMAINS [ListDomains ListSnapshots] domain::list_all;
    274 DOMAIN_LIST_ALL_SNAPSHOTS [ListSnapshots] snapshot::list_all;
    275 DOMAIN_SNAPSHOT_LIST_ALL_CHILDREN [ListSnapshots DescribeSnapshot] snapshot::list_all_children;
    277 DOMAIN_GET_HOSTNAME [GuestHostname] guest::hostname, partly "by the agent";
    278 DOMAIN_GET_SECURITY_LABEL_LIST [FindDomain] lacking::security_labels, partly "there is no security driver";
    279 DOMAIN_PIN_EMULATOR [TuneDomain] resources::pin_emulator;
    280 DOMAIN_GET_EMULATOR_PIN_INFO [GetTuning GetNode] resources::emulator_pins;
    281 CONNECT_LIST_ALL_STORAGE_POOLS [ListPools] pool::list_all;
    282 STORAGE_POOL_LIST_ALL_VOLUMES [ListVolumes] pool::list_volumes;
    283 CONNECT_LIST_ALL_NETWORKS [ListNetworks] network::list_all;
    284 CONNECT_LIST_ALL_INTERFACES [ListHostInterfaces] host::all_interfaces;
    285 CONNECT_LIST_ALL_NODE_DEVICES [ListNodeDevices] host::all_devices, partly "computer, PCI, USB, network, SCSI, disks, graphics";
    286 CONNECT_LIST_ALL_NWFILTERS [ListFilters] filter::list_all;
    287 CONNECT_LIST_ALL_SECRETS [ListSecrets] secret::list_all;
    288 NODE_SET_MEMORY_PARAMETERS [TuneSharedMemory] host_memory::tune_shared;
    289 NODE_GET_MEMORY_PARAMETERS [GetSharedMemory] host_memory::shared;
    290 DOMAIN_BLOCK_COMMIT [StartBlockJob] block_job::commit;
    291 NETWORK_UPDATE [UpdateNetwork] network::update, partly "DHCP hosts and ranges, DNS, port groups";
    293 NODE_GET_CPU_MAP [GetNode] node::cpu_map;
    294 DOMAIN_FSTRIM [TrimFilesystems] guest::trim, partly "all file systems, as libvirt does for QEMU";
    295 DOMAIN_SEND_PROCESS_SIGNAL [FindDomain] lacking::process_signal, partly "refused, as for QEMU: it is of containers";
    296 DOMAIN_OPEN_CHANNEL [OpenConsole] domain::open_channel;
    298 DOMAIN_GET_JOB_STATS [FindDomain ListJobs] jobs::stats;
    299 DOMAIN_MIGRATE_GET_COMPRESSION_CACHE [FindDomain] migration::compression_cache, partly "refused: there is no live migration";
    300 DOMAIN_MIGRATE_SET_COMPRESSION_CACHE [FindDomain] migration::set_compression_cache, partly "refused: there is no live migration";
    308 DOMAIN_SET_MEMORY_STATS_PERIOD [SetMemoryStatsPeriod] resources::set_memory_stats_period;
    309 DOMAIN_CREATE_XML_WITH_FILES [] lacking::create_xml_with_files, partly "refused, as for QEMU: it is of containers";
    310 DOMAIN_CREATE_WITH_FILES [FindDomain] lacking::create_with_files, partly "refused, as for QEMU: it is of containers";
    312 CONNECT_GET_CPU_MODEL_NAMES [] connect::cpu_models;
    313 CONNECT_NETWORK_EVENT_REGISTER_ANY [Subscribe] events::network;
    314 CONNECT_NETWORK_EVENT_DEREGISTER_ANY [] events::no_more;
    316 CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY [Subscribe] events::domain, partly "what happens here: see the events";
    317 CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY [] events::no_more;
    334 DOMAIN_CORE_DUMP_WITH_FORMAT [DumpDomain GetJob] saved::core_dump_format, partly "ELF, not compressed; by way of the host's cache";
    335 DOMAIN_FSFREEZE [FreezeFilesystems] guest::freeze;
    336 DOMAIN_FSTHAW [ThawFilesystems] guest::thaw, partly "all file systems, as libvirt does for QEMU";
    337 DOMAIN_GET_TIME [GetGuestTime] guest::time;
    338 DOMAIN_SET_TIME [SetGuestTime] guest::set_time;
    340 NODE_GET_FREE_PAGES [ListCells] host_memory::free_pages;
    341 NETWORK_GET_DHCP_LEASES [NetworkLeases DescribeNetwork] network::leases;
    342 CONNECT_GET_DOMAIN_CAPABILITIES [GetDomainCapabilities] connect::domain_capabilities;
    343 DOMAIN_OPEN_GRAPHICS_FD [OpenViewer] domain::open_graphics, partly "of the first screen";
    344 CONNECT_GET_ALL_DOMAIN_STATS [GetAllStats GetDomainStats ListDomains] stats::all, partly "without the group vm";
    345 DOMAIN_BLOCK_COPY [StartBlockJob] block_job::copy;
    347 NODE_ALLOC_PAGES [AllocatePages] host_memory::allocate_pages;
    349 DOMAIN_GET_FSINFO [ListGuestFilesystems] guest::filesystems;
    350 DOMAIN_DEFINE_XML_FLAGS [DefineDomain FindDomain] lifecycle::define_flags;
    351 DOMAIN_GET_IOTHREAD_INFO [GetTuning GetNode] io_threads::info;
    352 DOMAIN_PIN_IOTHREAD [GetTuning TuneDomain] io_threads::pin;
    353 DOMAIN_INTERFACE_ADDRESSES [LeasedAddresses GuestAddresses NeighbourAddresses] guest::addresses;
    355 DOMAIN_ADD_IOTHREAD [ChangeIoThread] io_threads::add, partly "for the next start";
    356 DOMAIN_DEL_IOTHREAD [ChangeIoThread] io_threads::remove, partly "for the next start";
    357 DOMAIN_SET_USER_PASSWORD [SetUserPassword] guest::set_password;
    358 DOMAIN_RENAME [RenameDomain] lifecycle::rename;
    360 CONNECT_REGISTER_CLOSE_CALLBACK [] connect::register_close;
    361 CONNECT_UNREGISTER_CLOSE_CALLBACK [] connect::unregister_close;
    364 DOMAIN_MIGRATE_START_POST_COPY [FindDomain] migration::start_post_copy, partly "refused: there is no live migration";
    365 DOMAIN_GET_PERF_EVENTS [FindDomain] lacking::perf_events, partly "none is counted";
    366 DOMAIN_SET_PERF_EVENTS [FindDomain] lacking::set_perf_events, partly "none is counted";
    368 CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY [Subscribe] events::pool;
    369 CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY [] events::no_more;
    371 DOMAIN_GET_GUEST_VCPUS [GetGuestVcpus] guest_cpus::vcpus;
    372 DOMAIN_SET_GUEST_VCPUS [SetGuestVcpus] guest_cpus::set_vcpus;
    374 CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY [Subscribe WatchNodeDevices] events::node_device;
    375 CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY [] events::no_more;
    378 STORAGE_VOL_GET_INFO_FLAGS [DescribeVolume] volume::info_flags;
    380 CONNECT_SECRET_EVENT_REGISTER_ANY [Subscribe] events::secret;
    381 CONNECT_SECRET_EVENT_DEREGISTER_ANY [] events::no_more;
    384 DOMAIN_SET_VCPU [SetVcpus] resources::set_vcpu, partly "vCPUs come in the order of their numbers, and go the other way";
    386 DOMAIN_SET_BLOCK_THRESHOLD [SetBlockThreshold] stats::set_block_threshold;
    387 DOMAIN_MIGRATE_GET_MAX_DOWNTIME [FindDomain] migration::max_downtime, partly "refused: there is no live migration";
    388 DOMAIN_MANAGED_SAVE_GET_XML_DESC [DumpManagedSave] saved::managed_save_xml;
    389 DOMAIN_MANAGED_SAVE_DEFINE_XML [DefineManagedSave] saved::managed_save_define;
    390 DOMAIN_SET_LIFECYCLE_ACTION [SetLifecycleAction] lifecycle::set_action, partly "destroy, restart, preserve";
    391 STORAGE_POOL_LOOKUP_BY_TARGET_PATH [ListPools] pool::by_target_path;
    392 DOMAIN_DETACH_DEVICE_ALIAS [DetachDevice] device::detach_alias;
    393 CONNECT_COMPARE_HYPERVISOR_CPU [CompareCpu] processors::compare_hypervisor;
    394 CONNECT_BASELINE_HYPERVISOR_CPU [BaselineCpu] processors::baseline_hypervisor;
    396 DOMAIN_GET_LAUNCH_SECURITY_INFO [FindDomain] lacking::launch_security, partly "refused: there is no SEV";
    397 NWFILTER_BINDING_LOOKUP_BY_PORT_DEV [DescribeFilterBinding] filter_bindings::by_device;
    398 NWFILTER_BINDING_GET_XML_DESC [DescribeFilterBinding] filter_bindings::xml;
    401 CONNECT_LIST_ALL_NWFILTER_BINDINGS [ListFilterBindings] filter_bindings::list;
    402 DOMAIN_SET_IOTHREAD_PARAMS [FindDomain] lacking::set_io_thread, partly "refused: io threads do not poll";
    403 CONNECT_GET_STORAGE_POOL_CAPABILITIES [GetPoolCapabilities] pool::capabilities;
    404 NETWORK_LIST_ALL_PORTS [ListNetworkPorts] network_ports::list;
    405 NETWORK_PORT_LOOKUP_BY_UUID [DumpNetworkPortXml] network_ports::by_uuid;
    409 NETWORK_PORT_GET_XML_DESC [DumpNetworkPortXml] network_ports::xml;
    411 DOMAIN_CHECKPOINT_CREATE_XML [CreateCheckpoint] backup::create;
    412 DOMAIN_CHECKPOINT_GET_XML_DESC [DumpCheckpoint] backup::xml;
    413 DOMAIN_LIST_ALL_CHECKPOINTS [ListCheckpoints] backup::list;
    414 DOMAIN_CHECKPOINT_LIST_ALL_CHILDREN [ListCheckpoints] backup::children;
    415 DOMAIN_CHECKPOINT_LOOKUP_BY_NAME [ListCheckpoints] backup::lookup;
    416 DOMAIN_CHECKPOINT_GET_PARENT [ListCheckpoints] backup::parent;
    417 DOMAIN_CHECKPOINT_DELETE [DeleteCheckpoint] backup::delete;
    418 DOMAIN_GET_GUEST_INFO [GetGuestInfo] guest_info::guest_info;
    420 DOMAIN_AGENT_SET_RESPONSE_TIMEOUT [SetAgentTimeout] guest::set_agent_timeout;
    421 DOMAIN_BACKUP_BEGIN [BeginBackup] backup::begin, partly "without TLS";
    422 DOMAIN_BACKUP_GET_XML_DESC [DumpBackup] backup::backup_xml;
    424 DOMAIN_AUTHORIZED_SSH_KEYS_GET [GetSshKeys] guest_cpus::ssh_keys;
    425 DOMAIN_AUTHORIZED_SSH_KEYS_SET [SetSshKeys] guest_cpus::set_ssh_keys;
    426 DOMAIN_GET_MESSAGES [DescribeDomain] domain::messages;
    427 DOMAIN_START_DIRTY_RATE_CALC [MeasureDirtyRate] stats::measure_dirty_rate, partly "the mode dirty-bitmap alone";
    431 NWFILTER_DEFINE_XML_FLAGS [DefineFilter] filter::define_flags;
    432 NETWORK_DEFINE_XML_FLAGS [DefineNetwork] network::define_flags;
    433 NODE_DEVICE_GET_AUTOSTART [DescribeNodeDevice] host::device_autostart;
    435 NODE_DEVICE_IS_PERSISTENT [DescribeNodeDevice] host::device_is_persistent;
    436 NODE_DEVICE_IS_ACTIVE [DescribeNodeDevice] host::device_is_active;
    437 NETWORK_CREATE_XML_FLAGS [CreateNetwork] network::create_xml_flags;
    439 DOMAIN_SET_LAUNCH_SECURITY_STATE [FindDomain] lacking::set_launch_security, partly "refused: there is no SEV";
    440 DOMAIN_SAVE_PARAMS [SaveDomain ManagedSave GetJob] saved::save_params, partly "one channel; formats raw, sparse, zstd";
    441 DOMAIN_RESTORE_PARAMS [RestoreDomain] saved::restore_params, partly "one channel";
    442 DOMAIN_ABORT_JOB_FLAGS [FindDomain ListJobs AbortJob] jobs::abort_flags, partly "going back to a snapshot goes on";
    443 DOMAIN_FD_ASSOCIATE [FindDomain] lacking::associate_files, partly "refused: disks are opened by their paths";
}
