/** For a JVM that lives for seconds: code compiled for the long run would be paid for and not used. */
export const SHORT_LIVED = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
