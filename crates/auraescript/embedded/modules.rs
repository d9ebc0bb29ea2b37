// Made by `npm run embed` in sdk/typescript.
const MODULES: &[Embedded] = &[
    Embedded {
        name: "aurae:audit",
        alias: Some("@aurae/sdk/audit"),
        code: include_str!("modules/audit.js"),
    },
    Embedded {
        name: "aurae:auth",
        alias: Some("@aurae/sdk/auth"),
        code: include_str!("modules/auth.js"),
    },
    Embedded {
        name: "aurae:cells",
        alias: Some("@aurae/sdk/cells"),
        code: include_str!("modules/cells.js"),
    },
    Embedded {
        name: "aurae:connect",
        alias: Some("@connectrpc/connect"),
        code: include_str!("modules/connect.js"),
    },
    Embedded {
        name: "aurae:discovery",
        alias: Some("@aurae/sdk/discovery"),
        code: include_str!("modules/discovery.js"),
    },
    Embedded {
        name: "aurae:lib-222PK3PN",
        alias: None,
        code: include_str!("modules/lib-222PK3PN.js"),
    },
    Embedded {
        name: "aurae:lib-62LYEMWY",
        alias: None,
        code: include_str!("modules/lib-62LYEMWY.js"),
    },
    Embedded {
        name: "aurae:lib-CCN2QPED",
        alias: None,
        code: include_str!("modules/lib-CCN2QPED.js"),
    },
    Embedded {
        name: "aurae:lib-VUB57OXW",
        alias: None,
        code: include_str!("modules/lib-VUB57OXW.js"),
    },
    Embedded {
        name: "aurae:lib-YUEHYKB6",
        alias: None,
        code: include_str!("modules/lib-YUEHYKB6.js"),
    },
    Embedded {
        name: "aurae:node",
        alias: Some("@aurae/sdk/node"),
        code: include_str!("modules/node.js"),
    },
    Embedded {
        name: "aurae:observe",
        alias: Some("@aurae/sdk/observe"),
        code: include_str!("modules/observe.js"),
    },
    Embedded {
        name: "aurae:protobuf",
        alias: Some("@bufbuild/protobuf"),
        code: include_str!("modules/protobuf.js"),
    },
    Embedded {
        name: "aurae:protobuf-codegen",
        alias: Some("@bufbuild/protobuf/codegenv2"),
        code: include_str!("modules/protobuf-codegen.js"),
    },
    Embedded {
        name: "aurae:protobuf-wkt",
        alias: Some("@bufbuild/protobuf/wkt"),
        code: include_str!("modules/protobuf-wkt.js"),
    },
    Embedded {
        name: "aurae:runtime",
        alias: Some("@aurae/sdk/runtime"),
        code: include_str!("modules/runtime.js"),
    },
    Embedded {
        name: "aurae:sdk",
        alias: Some("@aurae/sdk"),
        code: include_str!("modules/sdk.js"),
    },
    Embedded {
        name: "aurae:sdk-EEAAIGUQ",
        alias: None,
        code: include_str!("modules/sdk-EEAAIGUQ.js"),
    },
    Embedded {
        name: "aurae:sdk-HCPJ7Q2E",
        alias: None,
        code: include_str!("modules/sdk-HCPJ7Q2E.js"),
    },
    Embedded {
        name: "aurae:sdk-ITA5NPPQ",
        alias: None,
        code: include_str!("modules/sdk-ITA5NPPQ.js"),
    },
    Embedded {
        name: "aurae:sdk-TOPAGKTT",
        alias: None,
        code: include_str!("modules/sdk-TOPAGKTT.js"),
    },
    Embedded {
        name: "aurae:sdk-VC2YXZT3",
        alias: None,
        code: include_str!("modules/sdk-VC2YXZT3.js"),
    },
    Embedded {
        name: "aurae:sdk-XNJBTJW7",
        alias: None,
        code: include_str!("modules/sdk-XNJBTJW7.js"),
    },
];
