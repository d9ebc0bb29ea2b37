/** The configuration is missing or wrong. */
export declare class ConfigError extends Error {
    name: string;
}
