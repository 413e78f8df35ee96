// What Airflow lends to the pages that run in its own page: React, its router and its components, all of its theme.
import type * as ReactTypes from "react";

export type Props = { children?: ReactTypes.ReactNode; key?: ReactTypes.Key | null | undefined } & Record<string, unknown>;
type Component = (props: Props) => ReactTypes.ReactElement | null;

interface Host {
  React: typeof ReactTypes;
  ChakraUI: Record<"Box" | "Text" | "Heading" | "Input" | "NativeSelect" | "Spinner" | "Badge" | "Button" | "Textarea", Component> & {
    NativeSelect: Record<"Root" | "Field" | "Indicator", Component>;
  };
  ReactRouterDOM: {
    useSearchParams: () => [URLSearchParams, (next: URLSearchParams, options?: { replace: boolean }) => void];
    Link: Component;
    useNavigate: () => (path: string) => void;
  };
}

const host = globalThis as unknown as Host;
export const React = host.React;
export const { useCallback, useEffect, useMemo, useRef, useState } = React;
export const { Badge, Box, Button, Heading, Input, NativeSelect, Spinner, Text, Textarea } = host.ChakraUI;
export const { Link, useNavigate, useSearchParams } = host.ReactRouterDOM;
